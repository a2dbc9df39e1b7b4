"""The keyring for a further auth server: it opens what is sealed in the storage they share.

It goes out as the file has it. If that is sealed under a passphrase or by a plugin, whoever gets
it needs the same; and nobody can do anything with it who can not reach the storage.
"""

from collections.abc import Callable

from teleport_lite.audit.trail import Trail
from teleport_lite.auth.caller import Caller
from teleport_lite.errors import Denied, Unavailable
from teleport_lite.model.system_role import AUTH
from teleport_lite.proto.keyring import KeyringCopy
from teleport_lite.store.protocols import Store

# A keyring of a hundred keys, sealed.
MAX_KEYRING = 64 * 1024


class KeyringDesk:
    def __init__(self, *, store: Store, trail: Trail, keyring: Callable[[], bytes] | None) -> None:
        """`keyring` reads the file; without it, there is none to hand out."""
        self._store, self._trail, self._keyring = store, trail, keyring

    def hand_over(self, caller: Caller) -> KeyringCopy:
        """To a host that is an auth server by its certificate, and by what we know of it.

        Raises Denied, or Unavailable if the file can not be read.
        """
        facts = {"host_id": caller.name, "addr.remote": caller.address}
        with self._trail.attempt("cluster.keyring", ok="TLC01I", refused="TLC01W", **facts):
            known = self._store.host(caller.name)
            if known is None or AUTH not in known[0].roles:
                raise Denied("only an auth server of this cluster gets the keyring")
            if self._keyring is None:
                raise Unavailable("this auth server has no keyring in a file")
            return KeyringCopy(text=self._keyring().decode("ascii", "replace"))
