"""The auth host's own roles: they need no token, because they hold the CA already."""

from collections.abc import Sequence
from dataclasses import replace

from teleport_lite.ambient import Chance, Clock
from teleport_lite.auth.issue import Issuer
from teleport_lite.model.host import LOCAL, Host
from teleport_lite.pki.keys import public_of_csr
from teleport_lite.proto.join import Hello, Welcome
from teleport_lite.store.protocols import Store


class LocalDesk:
    def __init__(self, *, clock: Clock, chance: Chance, store: Store, issuer: Issuer) -> None:
        self._clock, self._chance = clock, chance
        self._store, self._issuer = store, issuer

    def admit(self, hello: Hello, roles: Sequence[str]) -> Welcome:
        """Certificates for this very process. `hello.host_id` is the UUID it has, or ""."""
        known = self._store.host(hello.host_id) if hello.host_id else None
        host = Host(
            id=known[0].id if known else self._chance.uuid(),
            name=hello.node_name,
            roles=tuple(roles),
            joined_at=known[0].joined_at if known else self._clock.now(),
            token_id=LOCAL,
            ssh_key=hello.ssh_key,
            tls_key=public_of_csr(hello.tls_csr),
            principals=tuple(hello.principals),
        )
        plan = self._issuer.plan(host)
        self._store.write(lambda tx: tx.put_host(host))
        return self._issuer.welcome(host, plan)

    def shown_to_all(self, host_id: str, tls_csr: str) -> str:
        """What this process serves auth with while the host CA is rotated, over the key of the
        request: PEM (auth/issue.py); "" when nothing is rotated, or there is no such host."""
        known = self._store.host(host_id)
        if known is None:
            return ""
        return self._issuer.shown_to_all(replace(known[0], tls_key=public_of_csr(tls_csr)))
