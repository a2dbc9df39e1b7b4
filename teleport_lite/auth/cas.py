"""The cluster's CAs as the other desks need them: whom to trust, and who signs."""

from collections.abc import Sequence

from teleport_lite.model.authority import CaKeys, CaType
from teleport_lite.pki.authority import Authority
from teleport_lite.pki.pin import pin_of
from teleport_lite.store.protocols import Store


class Cas:
    """One consistent view, reloaded on a rotation. Cheap to ask; holds the signing keys."""

    def __init__(self, store: Store, cluster: str) -> None:
        self._store, self.cluster = store, cluster
        self.reload()

    def reload(self) -> None:
        self._all = self._store.cas()
        self.signer = Authority(self._active(CaType.HOST), self._active(CaType.USER))

    def all(self) -> Sequence[CaKeys]:
        return self._all

    def tls(self, type: CaType) -> list[str]:
        """PEM certificates to trust, the signing one first."""
        return [keys.public.tls_cert for keys in self._of(type) if keys.public.tls_cert]

    def ssh(self, type: CaType) -> list[str]:
        """OpenSSH public key lines to trust, the signing one first."""
        return [keys.public.ssh_key for keys in self._of(type) if keys.public.ssh_key]

    def pins(self) -> list[str]:
        """All that are valid now; during a rotation there are two."""
        return [pin_of(pem) for pem in self.tls(CaType.HOST)]

    def _of(self, type: CaType) -> list[CaKeys]:
        return sorted((k for k in self._all if k.type is type), key=lambda k: not k.active)

    def _active(self, type: CaType) -> CaKeys:
        return self._of(type)[0]
