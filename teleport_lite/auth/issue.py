"""Certificates: from a decision to a plan to a signature. No policy of joining or login here."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

from teleport_lite.access.decide import locked, logins_of, merged_options
from teleport_lite.access.verdict import Refused
from teleport_lite.ambient import Chance, Clock
from teleport_lite.auth.cas import Cas
from teleport_lite.errors import Conflict, Denied, Malformed
from teleport_lite.model.authority import CaType
from teleport_lite.model.host import Host
from teleport_lite.model.system_role import BOT, PROXY, RoleBook, SystemRole
from teleport_lite.model.user import Role, User
from teleport_lite.pki.authority import VOUCHED_LIFE, Authority, Signed
from teleport_lite.pki.plan import HostCertPlan, UserCertPlan, host_principals
from teleport_lite.proto.alpn import proxy_name
from teleport_lite.proto.join import Welcome
from teleport_lite.store.protocols import Store

# Clocks disagree; a certificate that starts a little in the past works on a slow one too.
BACKDATE = timedelta(minutes=2)
# Renewed every 12 h; 30 days let a host sleep through a holiday.
HOST_LIFE = timedelta(days=30)
# Machine ID renews every 20 minutes; an hour is the window of a stolen copy.
BOT_LIFE = timedelta(hours=1)

# In a certificate for a machine that does not run teleport-lite; no route lets it in.
FOREIGN = "OpenSSH"


class Issuer:
    """Plans certificates and has them signed."""

    def __init__(
        self,
        *,
        clock: Clock,
        chance: Chance,
        store: Store,
        cas: Cas,
        book: RoleBook,
        places: Callable[[], tuple[list[str], list[str]]] = lambda: ([], []),
    ) -> None:
        """`places`: where auth servers, and proxies, are reached; for bots."""
        self._places = places
        self._clock, self._chance = clock, chance
        self._store, self._cas, self._book = store, cas, book

    def plan(self, host: Host, bot_name: str = "") -> HostCertPlan | UserCertPlan:
        """What `host`, or the bot on it, will get. Signs nothing.

        Raises Malformed for what can stand in no certificate, Conflict for the key of another
        host, Denied for a bot that is locked or gone.
        """
        other = self._store.host_by_key(host.ssh_key)
        if other is not None and other.id != host.id:
            raise Conflict(
                f"{host.name}: this SSH key belongs to another host",
                hint="start with an empty data_dir to join with new keys",
            )
        return self._plan_bot(host, bot_name) if host.roles == (BOT,) else self.plan_host(host)

    def welcome(
        self, host: Host, plan: HostCertPlan | UserCertPlan, server_final: str = ""
    ) -> Welcome:
        """Sign what was planned. `server_final` is "" where TLS has proved us."""
        self._cas.refresh()
        view = self._cas.view  # marks, keys and trust of one moment
        signed = _signed(view.signer, plan)
        serving: Signed | None = None
        if view.serving is not None and isinstance(plan, HostCertPlan):
            # Two CAs of one name: no two certificates of theirs have one serial.
            serving = view.serving.sign_host(replace(plan, serial=self._serial()))
        auths, proxies = self._places() if host.roles == (BOT,) else ([], [])
        return Welcome(
            server_final=server_final,
            host_id=host.id,
            cluster=self._cas.cluster,
            roles=list(host.roles),
            ssh_cert=signed.ssh_cert,
            tls_cert=signed.tls_cert,
            host_cas=view.tls(CaType.HOST),
            ssh_host_cas=view.ssh(CaType.HOST),
            ssh_user_cas=view.ssh(CaType.USER),
            user_cas=view.tls(CaType.USER),
            serving_ssh_cert=serving.ssh_cert if serving else "",
            serving_tls_cert=serving.tls_cert if serving else "",
            rotation=view.rotations[CaType.HOST].mark,
            auths=auths,
            proxies=proxies,
        )

    def sign(self, plan: HostCertPlan | UserCertPlan) -> Signed:
        self._cas.refresh()
        return _signed(self._cas.signer, plan)

    def marks(self) -> dict[str, str]:
        """By type of CA, what whoever is made welcome after this has caught up with at least: with
        a step between the two it has more, and may say so the next time."""
        self._cas.refresh()
        return self._cas.view.marks()

    def shown_to_all(self, host: Host) -> str:
        """What auth serves with while the host CA is rotated: PEM, with what belongs to it.

        A certificate of the new CA, for which the old one vouches: believed by whoever trusts
        either, in every phase and with either pin. "" when nothing is rotated.
        """
        view = self._cas.view
        if view.old_host is None or view.new_host is None:
            return ""
        plan = self.plan_host(host, life=VOUCHED_LIFE)
        new = view.rotations[CaType.HOST].new_ca
        [ca] = [keys for keys in view.of(CaType.HOST) if keys.id == new]
        vouched = view.old_host.vouch(ca.public.tls_cert, self._clock.now())
        return view.new_host.sign_host(plan).tls_cert + vouched

    def plan_host(self, host: Host, *, life: timedelta = HOST_LIFE) -> HostCertPlan:
        roles = [self._book.get(role) for role in host.roles]
        extra = (*host.principals, *(name for role in roles for name in role.extra_principals))
        cluster, now = self._cas.cluster, self._clock.now()
        with _readable(f"host {host.name}"):
            return HostCertPlan(
                cluster=cluster,
                host_id=host.id,
                name=host.name,
                roles=host.roles or (FOREIGN,),
                principals=host_principals(host.id, cluster, host.name, extra),
                dns_names=_dns_names(host, roles),
                ssh_public=host.ssh_key,
                tls_public=host.tls_key,
                starts=now - BACKDATE,
                ends=now + life,
                serial=self._serial(),
            )

    def plan_user(
        self,
        user: User,
        roles: list[Role],
        *,
        ttl: timedelta,
        ssh_key: str,
        tls_key: str,
        id: str,
        source_address: str = "",
    ) -> UserCertPlan:
        """Never more than the roles allow."""
        now = self._clock.now()
        with _readable(f"user {user.name}"):
            return UserCertPlan(
                cluster=self._cas.cluster,
                user=user.name,
                roles=user.roles,
                logins=logins_of(user, roles),
                traits=user.traits,
                options=merged_options(roles),
                ssh_public=ssh_key,
                tls_public=tls_key,
                starts=now - BACKDATE,
                ends=now + ttl,
                serial=self._serial(),
                source_address=source_address,
                id=id,
                bot=user.bot,
                generation=user.generation,
            )

    def roles_of(self, user: User) -> list[Role]:
        """Its role definitions; one that is gone gives nothing."""
        return [role for name in user.roles if (role := self._store.role(name)) is not None]

    def _plan_bot(self, host: Host, bot_name: str) -> UserCertPlan:
        user = self._store.user(bot_user(bot_name)) if bot_name else None
        if bot_name and user is None:
            raise Denied(f"bot {bot_name} does not exist any more", hint="tctl bots ls")
        if user is None:  # a bare token of type bot: somebody, but allowed nothing yet
            user = User(name=bot_user(host.id[:8]), roles=(), bot=True)
        verdict = locked(self._store.locks(), self._clock.now(), user=user.name, role=user.roles)
        if isinstance(verdict, Refused):
            raise Denied(verdict.reason)
        return self.plan_user(
            user,
            self.roles_of(user),
            ttl=BOT_LIFE,
            ssh_key=host.ssh_key,
            tls_key=host.tls_key,
            id=host.id,
        )

    def _serial(self) -> int:
        return int.from_bytes(self._chance.bytes(8)) or 1


def _signed(by: Authority, plan: HostCertPlan | UserCertPlan) -> Signed:
    return by.sign_host(plan) if isinstance(plan, HostCertPlan) else by.sign_user(plan)


def _dns_names(host: Host, roles: Iterable[SystemRole]) -> tuple[str, ...]:
    """The server names of its roles. A proxy is also asked for by its UUID: behind a balancer

    that is how an agent says which of them it wants (proto/alpn.py).
    """
    of_roles = tuple(name for role in roles for name in role.dns_names)
    return (*of_roles, proxy_name(host.id)) if PROXY in host.roles else of_roles


@contextmanager
def _readable(whose: str) -> Iterator[None]:
    """What people may store can still be too much for a certificate: their fault, not a bug."""
    try:
        yield
    except ValueError as why:
        raise Malformed(f"no certificate can be made for {whose}: {why}") from why


def bot_user(bot_name: str) -> str:
    """Bots are users with a prefix, so that a bot and a person never share a name."""
    return f"bot-{bot_name}"
