"""A cluster on paper that bots can join, and settings to do it with."""

import uuid
from datetime import timedelta
from pathlib import Path

from teleport_lite.agent.identity import Identity
from teleport_lite.agent.join import JoinRequest, Keys
from teleport_lite.ambient import Clock
from teleport_lite.cli.tbot.settings import Flags, Settings, settle
from teleport_lite.errors import Denied, Unavailable
from teleport_lite.pki.authority import Signed
from teleport_lite.pki.keys import csr, public_of_csr
from teleport_lite.pki.plan import BACKDATE, UserCertPlan
from teleport_lite.testing.certs import PaperCluster

TOKEN = "bot-token-0123456789"


class PaperAuth:
    """Auth, as far as a bot sees it: a token works once, a certificate for an hour.

    `failures` are raised first, one for each question.
    """

    def __init__(self, clock: Clock, *, logins: tuple[str, ...] = ("root",)) -> None:
        self.clock, self.logins = clock, logins
        self.paper = PaperCluster(now=clock.now())
        self.failures: list[Exception] = []
        self.joins: list[JoinRequest] = []
        self.renewals: list[tuple[Identity, str]] = []
        self.spent: set[str] = set()
        self.away: set[str] = set()  # servers that do not answer
        self.auths: tuple[str, ...] = ()  # that a bot is told of
        self.asked_with: list[tuple[Keys, float]] = []
        self.rotating: dict[str, str] | None = {}

    def join(self, request: JoinRequest) -> Identity:
        self.joins.append(request)
        assert request.keeper is not None
        keys = request.keeper.take()
        request.keeper.keep(keys)
        self._fail()
        if request.token.reveal() in self.spent:
            request.keeper.drop()
            raise Denied("web can not join the cluster, token expired or not found")
        self.spent.add(request.token.reveal())
        return self.identity(keys, str(uuid.uuid4()))

    def renew(
        self, identity: Identity, server: str, *, node_name: str, keys: Keys, patience: float
    ) -> Identity:
        self.renewals.append((identity, server))
        self.asked_with.append((keys, patience))
        self._fail(server)
        return self.identity(keys, identity.host_id)

    def marks(self, identity: Identity, server: str) -> dict[str, str] | None:
        del identity
        return None if server in self.away else self.rotating

    def identity(self, keys: Keys, bot_id: str, roles: tuple[str, ...] = ("Bot",)) -> Identity:
        signed, host, user = self._signed(keys, bot_id), self.paper.host_ca, self.paper.user_ca
        return Identity(
            cluster=self.paper.name,
            host_id=bot_id,
            roles=roles,
            ssh_private=keys.ssh_private,
            ssh_public=keys.ssh_public,
            tls_private=keys.tls_private,
            ssh_cert=signed.ssh_cert,
            tls_cert=signed.tls_cert,
            host_cas=(host.public.tls_cert,),
            ssh_host_cas=(host.public.ssh_key,),
            ssh_user_cas=(user.public.ssh_key,),
            user_cas=(user.public.tls_cert,),
            auths=self.auths,
        )

    def _signed(self, keys: Keys, bot_id: str) -> Signed:
        now = self.clock.now()
        plan = UserCertPlan(
            cluster=self.paper.name,
            user="bot-ci",
            roles=("access",),
            logins=self.logins,
            ssh_public=keys.ssh_public,
            tls_public=public_of_csr(csr(keys.tls_private, "bot-ci")),
            starts=now - BACKDATE,
            ends=now + timedelta(hours=1),
            serial=1 + len(self.joins) + len(self.renewals),
            id=bot_id,
            bot=True,
        )
        return self.paper.authority.sign_user(plan)

    def _fail(self, server: str = "") -> None:
        if server in self.away:
            raise Unavailable(f"{server}: connection refused")
        if self.failures:
            raise self.failures.pop(0)


def settings(tmp_path: Path, *, token: str = TOKEN, **more) -> Settings:
    given = {
        "token": token,
        "auth_server": "auth.example.com",
        "storage": str(tmp_path / "storage"),
        "destinations": (str(tmp_path / "out"),),
    }
    return settle(Flags(**{**given, **more}))


def an_identity(clock: Clock, **more) -> Identity:
    return PaperAuth(clock, **more).identity(Keys.single(), str(uuid.uuid4()))
