"""Renewal: a host or bot that is still itself gets new certificates, without a token."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from teleport_lite.access.decide import locked
from teleport_lite.access.verdict import Refused
from teleport_lite.ambient import Clock
from teleport_lite.audit.trail import Entry, Trail
from teleport_lite.auth.caller import Caller, Kind
from teleport_lite.auth.issue import Issuer, bot_user
from teleport_lite.auth.record import write_recorded
from teleport_lite.errors import Denied, NotFound, Unavailable
from teleport_lite.model.host import Host
from teleport_lite.pki.keys import check_ssh_public, public_of_csr
from teleport_lite.pki.plan import HostCertPlan, UserCertPlan
from teleport_lite.proto.join import Hello, Renew, Welcome
from teleport_lite.store.protocols import Store, Tx

# What somebody else changes of a host meanwhile, a role it has joined with, is rare.
TRIES = 4


class RenewDesk:
    def __init__(
        self,
        *,
        clock: Clock,
        store: Store,
        trail: Trail,
        issuer: Issuer,
        check: Callable[[Caller], None],
        came: Callable[[str, dict[str, str]], None] = lambda *_: None,
    ) -> None:
        """`check` raises Denied for a certificate whose CA was retired (auth/rotation.py). `came`
        is told of bots, and what they know of rotations now: they have no stream."""
        self._clock, self._store, self._trail, self._issuer = clock, store, trail, issuer
        self._came, self._check = came, check

    def renew(self, caller: Caller, asked: Renew) -> Welcome:
        """New certificates for the host or bot behind `caller`, over new keys.

        Who it is comes from its certificate; roles and principals stay what the store says, so
        a renewal can only keep or lose. Raises Denied for one that is locked or removed, or whose
        CA is retired meanwhile: else a stolen key of it would be worth a certificate of the next.
        """
        host_id = caller.bot_instance if caller.kind is Kind.BOT else caller.name
        with self._trail.attempt(
            "instance.renew",
            ok="TJ003I",
            refused="TJ003E",
            **{"host_id": host_id, "addr.remote": caller.address},
        ) as entry:
            self._check(caller)
            renewed, plan = self._kept(caller, host_id, asked.hello, entry)
            marks = self._issuer.marks()
            welcome = self._issuer.welcome(renewed, plan)
            self._check(caller)  # of now: a signature looks for news of the CAs
        if caller.kind is Kind.BOT:
            self._came(host_id, marks)
        return welcome

    def _kept(
        self, caller: Caller, host_id: str, hello: Hello, entry: Entry
    ) -> tuple[Host, HostCertPlan | UserCertPlan]:
        """With its new keys, in the store. One that is removed meanwhile does not come back."""
        for _ in range(TRIES):
            host = self._known(host_id)
            renewed = _with_new_keys(host, hello)
            plan = self._issuer.plan(renewed, _bot_name(caller, host))
            if write_recorded(self._store, entry, partial(_replace, host, renewed)):
                return renewed, plan
        raise Unavailable(f"host {host_id} is being changed by others", hint="tctl get hosts")

    def _known(self, host_id: str) -> Host:
        found = self._store.host(host_id)
        if found is None:
            raise NotFound(
                f"host {host_id} is not part of this cluster any more",
                hint="join again with a new token: tctl tokens add",
            )
        verdict = locked(self._store.locks(), self._clock.now(), node=host_id)
        if isinstance(verdict, Refused):
            raise Denied(verdict.reason)
        return found[0]


def _replace(was: Host, renewed: Host, tx: Tx) -> bool:
    """False, and nothing changes, if it is another one by now, or removed."""
    if not tx.is_still(Host, was.id, was):
        return False
    tx.put_host(renewed)
    return True


def _bot_name(caller: Caller, host: Host) -> str:
    """ "" for a host, and for a bot that joined without a name (auth/issue.py)."""
    if caller.kind is not Kind.BOT or caller.name == bot_user(host.id[:8]):
        return ""
    return caller.name.removeprefix(bot_user(""))


def _with_new_keys(host: Host, hello: Hello) -> Host:
    """Keys change; the name does not, or a host could take the name of another."""
    return replace(
        host,
        ssh_key=check_ssh_public(hello.ssh_key),
        tls_key=public_of_csr(hello.tls_csr),
    )
