"""The auth role's side of joining. Read `finish` first: it is the whole story.

proto/join.py draws the conversation.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial

from teleport_lite.access.decide import locked
from teleport_lite.access.verdict import Refused
from teleport_lite.ambient import Chance, Clock
from teleport_lite.audit.trail import Entry, Trail
from teleport_lite.auth.caller import Caller, Kind
from teleport_lite.auth.cas import Cas
from teleport_lite.auth.issue import Issuer
from teleport_lite.auth.limits import GuessLimit
from teleport_lite.auth.scram import Decoys, Talks
from teleport_lite.auth.tokens import TokenDesk
from teleport_lite.errors import Conflict, Denied, Malformed, Unavailable
from teleport_lite.model.authority import CaType
from teleport_lite.model.duration import show_skew
from teleport_lite.model.host import Host
from teleport_lite.model.names import HOST_NAME, checked_host_name
from teleport_lite.model.system_role import BOT, RoleBook
from teleport_lite.model.token import JoinToken, Verifier
from teleport_lite.pki.keys import check_ssh_public, public_of_csr, ssh_fingerprint
from teleport_lite.pki.plan import HostCertPlan, UserCertPlan
from teleport_lite.proto.join import (
    Bundle,
    Hello,
    JoinChallenge,
    JoinFinish,
    JoinStart,
    RetiredPin,
    Welcome,
)
from teleport_lite.proto.skew import check_host
from teleport_lite.proto.trust import TrustFinish
from teleport_lite.store.protocols import Store, Tx

# Certificates are backdated by two minutes; a host further off could not use them.
MAX_SKEW = timedelta(minutes=2)
# Its own addresses and public names; more than this is a mistake or a trick.
MAX_PRINCIPALS = 16
ASK_FOR_ANOTHER = "tctl tokens add"
# Two answers to one host at once are rare, and three of them are a broken host.
TRIES = 4


@dataclass(frozen=True, slots=True)
class Wish:
    """What a proved and checked hello asks for."""

    name: str
    roles: tuple[str, ...]
    ssh_key: str
    tls_key: str
    principals: tuple[str, ...]
    host_id: str
    version: str


class JoinDesk:
    def __init__(
        self,
        *,
        clock: Clock,
        chance: Chance,
        store: Store,
        trail: Trail,
        cas: Cas,
        tokens: TokenDesk,
        issuer: Issuer,
        book: RoleBook,
        decoys: Decoys,
        version: str,
        door: Callable[[], str],
        came: Callable[[str, dict[str, str]], None] = lambda *_: None,
        servers: Callable[[], int] = lambda: 1,
    ) -> None:
        """`decoys` are those of every auth server: two that answer differently for a token that
        there is not would tell so. `version` is ours; `door` says where hosts find a proxy, "" if
        there is none. `came` is told of bots (auth/renew.py)."""
        self._came = came
        self._clock, self._chance = clock, chance
        self._store, self._trail, self._cas = store, trail, cas
        self._tokens, self._issuer, self._book = tokens, issuer, book
        self._version, self._door = version, door
        self._limit = GuessLimit(clock, "joins", servers)
        self._decoys = decoys
        self._talks = Talks(clock, chance, "join")

    def bundle(self) -> Bundle:
        """Public words: who we claim to be. A host believes what its pin, or the proof, covers."""
        view = self._cas.view
        gone = view.rotations[CaType.HOST].retired
        return Bundle(
            cluster=self._cas.cluster,
            version=self._version,
            time=self._clock.now().timestamp(),
            host_cas=view.tls(CaType.HOST),
            retired=[RetiredPin(pin=each.pin, at=each.at.timestamp()) for each in gone],
            marks=view.marks(),
        )

    def start(self, caller: Caller, asked: JoinStart) -> JoinChallenge:
        """Raises Denied for a wrong clock, Unavailable after too many failures, Malformed."""
        self._limit.check(caller.address)
        skew = asked.time - self._clock.now().timestamp()
        if abs(skew) > MAX_SKEW.total_seconds():
            self._refuse_clock(caller, asked, skew)
        session, talk = self._talks.begin(
            asked.client_first, self._verifier, caller.our_certificate, caller.address
        )
        return JoinChallenge(session=session, server_first=talk.server_first)

    def finish(self, caller: Caller, asked: JoinFinish) -> Welcome:
        """Let a host in and hand it its first certificates.

        Raises Denied, Conflict, Malformed or Unavailable. Nothing is signed until every check
        has passed; the token is spent, the host recorded and the trail written in one
        transaction before that. A crash in between costs a use, never a free entry, and the
        same host with the same key may ask again for ten minutes.
        """
        self._limit.check(caller.address)
        with self._trail.attempt(
            "instance.join", ok="TJ002I", refused="TJ002E", **_who(caller, asked.hello)
        ) as entry:
            cannot = f"{_shown(asked.hello.node_name)} can not join the cluster"
            token, server_final = self._proved(caller, asked, entry, cannot)
            wish = self._checked(asked.hello, token, cannot)
            host, plan = self._kept(caller, wish, token, entry, cannot)
            marks = self._issuer.marks()
            welcome = self._issuer.welcome(host, plan, server_final)
        if host.roles == (BOT,):
            self._came(host.id, marks)
        return welcome

    def proved(
        self, caller: Caller, asked: TrustFinish, entry: Entry, cannot: str
    ) -> tuple[JoinToken, str]:
        """For a cluster that joins: the token whose owner this is, and our proof of knowing it.
        Raises Denied, Unavailable. Spending it is left to who asks."""
        self._limit.check(caller.address)
        return self._proved(caller, asked, entry, cannot)

    def _proved(
        self, caller: Caller, asked: JoinFinish | TrustFinish, entry: Entry, cannot: str
    ) -> tuple[JoinToken, str]:
        """The token whose owner this is. One answer for wrong, unknown and expired: a guesser

        must not learn which tokens ever existed. The trail may know.
        """
        refused = f"{cannot}, token expired or not found"
        try:
            talk = self._talks.take(asked.session)
            server_final = talk.prove(asked.client_final)
        except Denied as why:
            self._limit.failed(caller.address)
            if why.log == "no session":
                raise
            raise Denied(refused, hint=ASK_FOR_ANOTHER, log="wrong or unknown token") from why
        token = self._tokens.find(talk.name)
        if token is None or token.expired(self._clock.now()):
            why_not = "expired" if token else "removed a moment ago"
            raise Denied(refused, hint=ASK_FOR_ANOTHER, log=why_not)
        entry.facts["token_id"] = token.id
        return token, server_final

    def _checked(self, hello: Hello, token: JoinToken, cannot: str) -> Wish:
        checked_host_name(hello.node_name, "node name")
        check_host(hello.version, ours=self._version, proxy=self._door())
        roles = self._book.parse(",".join(hello.roles))
        for role in roles:
            if role not in token.roles:
                raise Denied(
                    f'{cannot}, the token does not allow "{role}" role',
                    hint=f"tctl tokens add --type={self._book.get(role).flag}",
                )
            if not self._book.get(role).is_host and roles != (BOT,):
                raise Malformed(f"{cannot}, role {role} is not one that a host can have")
        if len(hello.principals) > MAX_PRINCIPALS:
            raise Malformed(f"{cannot}, it may ask for at most {MAX_PRINCIPALS} principals")
        return Wish(
            name=hello.node_name,
            roles=roles,
            ssh_key=check_ssh_public(hello.ssh_key),
            tls_key=public_of_csr(hello.tls_csr),
            principals=tuple(checked_host_name(each, "principal") for each in hello.principals),
            host_id=hello.host_id,
            version=hello.version,
        )

    def _unlocked(self, token: JoinToken, host: Host, cannot: str) -> None:
        verdict = locked(self._store.locks(), self._clock.now(), join_token=token.id, node=host.id)
        if isinstance(verdict, Refused):
            raise Denied(f"{cannot}, {verdict.reason}")

    def _kept(
        self, caller: Caller, wish: Wish, token: JoinToken, entry: Entry, cannot: str
    ) -> tuple[Host, HostCertPlan | UserCertPlan]:
        """In the store, and its token spent. Who asks twice at once, because an answer takes long,
        is one host; also if it asks two auth servers."""
        for _ in range(TRIES):
            host, known = self._host(caller, wish, token, entry, cannot)
            self._unlocked(token, host, cannot)
            plan = self._issuer.plan(host, token.bot_name)
            entry.facts["host_id"] = host.id
            record = partial(self._record, token, host, known, wish.roles, entry, cannot)
            if self._store.write(record):
                return host, plan
        raise Unavailable(f"{cannot} now, it is being changed by others", hint="tctl get hosts")

    def _host(
        self, caller: Caller, wish: Wish, token: JoinToken, entry: Entry, cannot: str
    ) -> tuple[Host, Host | None]:
        """A new host, or a known one with what it has and what it asks for; and that as it was."""
        host = Host(
            id=self._chance.uuid(),
            name=wish.name,
            roles=wish.roles,
            joined_at=self._clock.now(),
            token_id=token.id,
            ssh_key=wish.ssh_key,
            tls_key=wish.tls_key,
            principals=wish.principals,
        )
        replay = self._replayed(token, wish)
        if replay is not None:
            entry.facts["replayed"] = "yes"
            return replace(host, id=replay.id), replay
        if not wish.host_id:
            return host, None
        known = self._known(caller, wish, entry, cannot)
        grown = replace(
            host,
            id=known.id,
            name=known.name if "rejoined" in entry.facts else host.name,
            roles=tuple(dict.fromkeys((*known.roles, *host.roles))),
            principals=tuple(dict.fromkeys((*known.principals, *host.principals))),
        )
        return grown, known

    def _known(self, caller: Caller, wish: Wish, entry: Entry, cannot: str) -> Host:
        """The host that this is: one that shows its certificate, or one whose certificates nobody
        takes any more, because a CA was rotated while it was away. Raises Conflict.

        That one has the keys it had: both, and it keeps its name, too. So who repeats its request,
        which is no secret, gains nothing.
        """
        found = self._store.host(wish.host_id)
        if found is not None:
            if caller.kind is Kind.HOST and caller.name == wish.host_id:
                return found[0]
            if (found[0].ssh_key, found[0].tls_key) == (wish.ssh_key, wish.tls_key):
                entry.facts["rejoined"] = "yes"
                return found[0]
        raise Conflict(
            f"{cannot} as {_shown(wish.host_id)}: it did not show that host's certificate, "
            "and has not its keys",
            hint="start with an empty data_dir to join as a new host",
        )

    def _replayed(self, token: JoinToken, wish: Wish) -> Host | None:
        """What these very keys already got: the first answer was lost on the way.

        An SSH key is known to everybody who connects; the TLS key is the one that was proved.
        """
        host = self._store.host_by_key(wish.ssh_key)
        if host is None or host.token_id != token.id or host.tls_key != wish.tls_key:
            return None
        return host if set(wish.roles) <= set(host.roles) else None

    def _record(
        self,
        token: JoinToken,
        host: Host,
        known: Host | None,
        roles: tuple[str, ...],
        entry: Entry,
        cannot: str,
        tx: Tx,
    ) -> bool:
        """False, and nothing has changed, if what it was decided on is another by now."""
        if known is None:
            placed = tx.add_host(host)
        elif placed := tx.is_still(Host, known.id, known):
            tx.put_host(host)
        if not placed:
            return False
        now = self._clock.now()
        key = ssh_fingerprint(host.ssh_key)
        if not token.static and not tx.spend_token(token.name, roles=roles, key=key, now=now):
            raise Denied(
                f"{cannot}, token expired or not found",
                hint=ASK_FOR_ANOTHER,
                log="used, removed or expired a moment ago",
            )
        entry.commit(tx)
        return True

    def _refuse_clock(self, caller: Caller, asked: JoinStart, skew: float) -> None:
        self._limit.failed(caller.address)
        with self._trail.attempt(
            "instance.join",
            ok="TJ002I",
            refused="TJ002E",
            node_name=_shown(asked.node_name),
            **{"addr.remote": caller.address},
        ):
            raise Denied(
                f"{_shown(asked.node_name)} can not join the cluster, {skew_text(skew)}",
                hint="set the clock, for example: timedatectl set-ntp true",
            )

    def _verifier(self, name: str) -> Verifier:
        token = self._tokens.find(name)
        return token.verifier if token else self._decoys.verifier(name)


def skew_text(seconds: float) -> str:
    """How far a clock is off, for a person."""
    ahead = "ahead of" if seconds > 0 else "behind"
    return f"its clock is {show_skew(seconds)} {ahead} the auth server's (2 minutes are allowed)"


def _shown(name: str) -> str:
    return name if HOST_NAME.fullmatch(name) else ascii(name[:64])


def _who(caller: Caller, hello: Hello) -> dict[str, str]:
    return {
        "node_name": _shown(hello.node_name),
        "roles": ",".join(hello.roles)[:200],
        "method": "token",
        "addr.remote": caller.address,
    }
