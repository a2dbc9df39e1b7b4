"""The auth role with everything it touches within reach of the test, and a host that joins it."""

import functools
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from scramp import ScramClient

from teleport_lite.auth.api import answer
from teleport_lite.auth.caller import Caller, Kind
from teleport_lite.auth.desks import Keeping, build
from teleport_lite.auth.start import found_cluster
from teleport_lite.model.event import Event
from teleport_lite.model.host import Host
from teleport_lite.pki.keys import csr, new_ssh_key, new_tls_key
from teleport_lite.pki.passwords import stretch
from teleport_lite.plugin.builtin import builtin_book
from teleport_lite.proto.codec import write
from teleport_lite.proto.join import (
    BINDING,
    MECHANISM,
    Hello,
    JoinFinish,
    JoinStart,
    Welcome,
    server_end_point,
    token_name,
)
from teleport_lite.proto.login import (
    LoginChallenge,
    LoginFinish,
    LoginStart,
    LoginWelcome,
    Stretch,
)
from teleport_lite.secret import Secret
from teleport_lite.store.memory import MemoryStore
from teleport_lite.store.protocols import Store
from teleport_lite.testing.fakes import FakeChance, FakeClock
from teleport_lite.testing.makers import TOKEN

CLUSTER = "test.example"
OURS = b"DER of the certificate that auth shows"
PASSWORD = "correct horse staple"
PROXY_ID = "f52527f9-b260-41d0-bb5a-e23b0cfe0f8f"
SSH_KEY, TLS_CSR = new_ssh_key()[1], csr(new_tls_key(), "alice")
ROOT = Caller(kind=Kind.ADMIN, name="root", address="local")


def stranger(address: str = "192.0.2.7", certificate: bytes = OURS) -> Caller:
    return Caller(kind=Kind.ANYONE, name="", address=address, our_certificate=certificate)


def the_host(host_id: str, *roles: str) -> Caller:
    """A host that shows its certificate."""
    return Caller(
        kind=Kind.HOST, name=host_id, address="192.0.2.7", roles=roles, our_certificate=OURS
    )


@functools.cache
def key_of(password: str, salt: str, time: int, memory: int, lanes: int) -> str:
    """Slow on purpose, too: a tenth of a second for each password of each user."""
    by = Stretch(salt=salt, time=time, memory=memory, lanes=lanes)
    return stretch(Secret(password), by).reveal()


@functools.cache
def name_of(text: str) -> str:
    """It is slow on purpose, and hundreds of hosts here share a token."""
    return token_name(Secret(text))


@dataclass
class Applicant:
    """A host that wants to join; its keys are its own and stay the same."""

    text: str = TOKEN
    name: str = "web-1"
    roles: tuple[str, ...] = ("Node",)
    host_id: str = ""
    sees: bytes = OURS  # the server certificate at its end of the connection
    changes: dict[str, Any] = field(default_factory=dict)  # of the Hello

    def __post_init__(self) -> None:
        self.ssh_key = new_ssh_key()[1]
        self.tls_csr = csr(new_tls_key(), self.name)
        self.scram: ScramClient | None = None

    @property
    def hello(self) -> Hello:
        fields = {
            "node_name": self.name,
            "roles": list(self.roles),
            "ssh_key": self.ssh_key,
            "tls_csr": self.tls_csr,
            "host_id": self.host_id,
        }
        return Hello(**(fields | self.changes))

    def first(self, time: float) -> JoinStart:
        self.scram = ScramClient(
            [MECHANISM],
            name_of(self.text),
            self.text,
            channel_binding=(BINDING, server_end_point(self.sees)),
        )
        return JoinStart(client_first=self.scram.get_client_first(), node_name=self.name, time=time)

    def last(self, session: str, server_first: str) -> JoinFinish:
        assert self.scram is not None
        self.scram.set_server_first(server_first)
        return JoinFinish(
            session=session, client_final=self.scram.get_client_final(), hello=self.hello
        )

    def believe(self, welcome: Welcome) -> None:
        assert self.scram is not None
        self.scram.set_server_final(welcome.server_final)


@dataclass
class Visitor:
    """A person at `tsh login`, with keys of her own."""

    name: str = "alice"
    password: str = PASSWORD
    address: str = "192.0.2.7"
    sees: bytes = OURS  # the server certificate at her end of the connection
    ttl: str = ""
    changes: dict[str, Any] = field(default_factory=dict)  # of LoginFinish

    def __post_init__(self) -> None:
        self.ssh_key = SSH_KEY
        self.tls_csr = TLS_CSR
        self.scram: ScramClient | None = None

    @property
    def caller(self) -> Caller:
        return stranger(self.address)

    def _scram(self, key: str, nonce: str | None) -> ScramClient:
        binding = (BINDING, server_end_point(self.sees))
        return ScramClient([MECHANISM], self.name, key, binding, nonce)

    def first(self, time: float) -> LoginStart:
        opening = self._scram("unused", None)
        self._nonce = str(opening.c_nonce)
        return LoginStart(client_first=opening.get_client_first(), time=time)

    def last(self, challenge: LoginChallenge) -> LoginFinish:
        by = challenge.stretch
        key = key_of(self.password, by.salt, by.time, by.memory, by.lanes)
        self.scram = self._scram(key, self._nonce)
        self.scram.get_client_first()
        self.scram.set_server_first(challenge.server_first)
        words = {
            "session": challenge.session,
            "client_final": self.scram.get_client_final(),
            "ssh_key": self.ssh_key,
            "tls_csr": self.tls_csr,
            "ttl": self.ttl,
        }
        return LoginFinish(**(words | self.changes))

    def believe(self, welcome: LoginWelcome) -> None:
        assert self.scram is not None
        self.scram.set_server_final(welcome.server_final)


class Bench:
    """`bench.desks` is the auth role; nothing of it is faked but time, chance and the disk."""

    def __init__(
        self,
        *,
        store: Store | None = None,
        clock: FakeClock | None = None,
        seed: str = "",
        auth_address: str = "auth.example:3025",
        keeping: Keeping | None = None,
        cluster: str = CLUSTER,
    ) -> None:
        self.clock, self.chance = clock or FakeClock(), FakeChance(seed)
        self.store = store or MemoryStore()
        found_cluster(self.store, name=cluster, clock=self.clock, chance=self.chance)
        self.desks = build(
            clock=self.clock,
            chance=self.chance,
            store=self.store,
            book=builtin_book(),
            cluster=cluster,
            version="1.2.3",
            auth_address=auth_address,
            keeping=keeping,
        )

    def token(self, types: str = "node", *, text: str = TOKEN, ttl: str = "30m") -> str:
        """A join token; what it says."""
        made = self.ask("/v1/tokens/add", types=types, value=text, ttl=ttl)
        return str(made["token"])

    def ask(self, path: str, caller: Caller = ROOT, **words: Any) -> Any:
        """Through the API table, as JSON from the wire."""
        return answer(self.desks, path, caller, write(words))

    def begin(self, who: Applicant, caller: Caller | None = None) -> JoinFinish:
        """Everything but the last question."""
        asked = who.first(self.clock.now().timestamp())
        challenge = self.desks.joins.start(caller or stranger(), asked)
        return who.last(challenge.session, challenge.server_first)

    def finish(self, who: Applicant, last: JoinFinish, caller: Caller | None = None) -> Welcome:
        welcome = self.desks.joins.finish(caller or stranger(), last)
        who.believe(welcome)
        return welcome

    def join(self, who: Applicant | None = None, caller: Caller | None = None) -> Welcome:
        """The whole conversation, both sides for real. Raises what auth raises."""
        who = who or Applicant()
        return self.finish(who, self.begin(who, caller), caller)

    # --- people

    def user(self, name: str = "alice", password: str = PASSWORD, **words: Any) -> None:
        """A user who has set a password, by the link and all."""
        asked = {"name": name, "roles": ["access"], "logins": ["root"], **words}
        made = self.ask("/v1/users/add", **asked)
        self.accept(made["invite"]["token"], password)

    def accept(self, token: str, password: str = PASSWORD, source: str = "198.51.100.5") -> Any:
        """What a proxy asks when somebody has sent the page of a link."""
        return self.ask(
            "/v1/invite/accept", self.proxy(), token=token, password=password, source=source
        )

    def proxy(self) -> Caller:
        """One that has joined."""
        if self.store.host(PROXY_ID) is None:
            host = Host(
                id=PROXY_ID,
                name="proxy-1",
                roles=("Proxy",),
                joined_at=self.clock.now(),
                token_id="t",
                ssh_key="key of proxy-1",
                tls_key="PEM",
            )
            self.store.write(lambda tx: tx.put_host(host))
        return the_host(PROXY_ID, "Proxy")

    def challenge(self, who: Visitor) -> LoginChallenge:
        asked = who.first(self.clock.now().timestamp())
        return self.desks.logins.start(who.caller, asked)

    def login(self, who: Visitor | None = None) -> LoginWelcome:
        """The whole conversation, both sides for real. Raises what auth raises."""
        who = who or Visitor()
        last = who.last(self.challenge(who))
        welcome = self.desks.logins.finish(who.caller, last)
        who.believe(welcome)
        return welcome

    # --- what is left behind

    def events(self, kind: str = "") -> list[Event]:
        found = [event for _, event in self.store.events(limit=100_000)]
        return [event for event in found if kind in ("", event.kind)]

    def last_event(self, kind: str) -> Event:
        return self.events(kind)[-1]

    def hosts(self) -> list[str]:
        return [host.id for host, _ in self.store.hosts()]

    def trail_text(self) -> str:
        return repr(self.events())

    def later(self, **span: float) -> None:
        self.clock.tick(**span)


MINUTE = timedelta(minutes=1)
