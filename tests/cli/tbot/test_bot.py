"""The life of a bot, against auth on paper."""

from datetime import timedelta
from pathlib import Path

import pytest

from teleport_lite.agent import identity as identities
from teleport_lite.agent.join import Keys
from teleport_lite.cli.tbot.bot import Bot
from teleport_lite.cli.tbot.wake import Wake
from teleport_lite.errors import Denied, Error, Malformed, NotFound, Unavailable
from teleport_lite.testing.fakes import FakeChance, FakeClock
from tests.cli.tbot.makers import TOKEN, PaperAuth, settings

AWAY = Unavailable("auth.example.com:3025: connection refused")
LOCKED = Denied("bot ci is locked")


class Bench:
    """A bot with everything it touches within reach of the test."""

    def __init__(self, tmp_path: Path) -> None:
        self.dir = tmp_path
        self.clock = FakeClock.here()
        self.auth = PaperAuth(self.clock)
        self.said: list[str] = []

    def bot(self, **more) -> Bot:
        return Bot(
            settings(self.dir, **more),
            clock=self.clock,
            chance=FakeChance(),
            cluster=self.auth,
            say=self.said.append,
        )

    def written(self) -> dict[str, bytes]:
        return {
            str(path.relative_to(self.dir)): path.read_bytes()
            for path in sorted(self.dir.rglob("*"))
            if path.is_file()
        }


class Days:
    """Waits by moving the clock. `plan` has what ends each wait; after it, stop."""

    def __init__(self, clock: FakeClock, *plan: Wake) -> None:
        self.clock, self.plan, self.waits = clock, list(plan), []

    def wait(self, seconds: float) -> Wake:
        self.waits.append(seconds)
        self.clock.tick(seconds=seconds)
        return self.plan.pop(0) if self.plan else Wake.STOP


class Until(Days):
    """Time passes until `length` is over, then stop."""

    def __init__(self, clock: FakeClock, length: timedelta) -> None:
        super().__init__(clock)
        self.until = clock.now() + length

    def wait(self, seconds: float) -> Wake:
        self.waits.append(seconds)
        self.clock.tick(seconds=seconds)
        return Wake.STOP if self.clock.now() >= self.until else Wake.TIME


@pytest.fixture
def bench(tmp_path) -> Bench:
    return Bench(tmp_path)


def refusal(bot: Bot) -> Error:
    with pytest.raises(Error) as why:
        bot.once()
    return why.value


# once


def test_a_bot_joins_with_its_token_and_leaves_its_files(bench):
    identity = bench.bot(ca_pins=("sha256:" + "a" * 64,)).once()
    [asked] = bench.auth.joins
    assert (asked.servers, asked.roles) == (("auth.example.com:3025",), ("Bot",))
    assert (asked.token.reveal(), asked.pins) == (TOKEN, ("sha256:" + "a" * 64,))
    assert (bench.dir / "out/tlscert").read_text() == identity.tls_cert
    assert identities.load(bench.dir / "storage") == identity


def test_nothing_is_left_of_the_join_but_the_identity(bench):
    bench.bot().once()
    assert [path.name for path in (bench.dir / "storage").iterdir()] == ["identity.json"]


def test_the_next_start_renews_without_the_token_and_stays_who_it_is(bench):
    first = bench.bot().once()
    again = bench.bot(token="").once()
    assert len(bench.auth.joins) == 1
    assert bench.auth.renewals == [(first, "auth.example.com:3025")]
    assert again.host_id == first.host_id
    assert again.ssh_public != first.ssh_public
    assert (bench.dir / "out/tlscert").read_text() == again.tls_cert
    assert identities.load(bench.dir / "storage") == again


def test_a_token_that_was_used_up_does_no_harm_while_the_bot_can_renew(bench):
    bench.bot().once()
    bench.bot().once()
    assert (len(bench.auth.joins), len(bench.auth.renewals), bench.said) == (1, 1, [])


def test_without_identity_and_token_the_error_says_what_to_type(bench):
    why = refusal(bench.bot(token=""))
    assert isinstance(why, Malformed)
    assert why.message == "a token is needed to join, and none was given"
    assert why.hint.startswith("tctl bots add")
    assert bench.written() == {}


def test_a_refused_join_writes_nothing(bench):
    bench.auth.spent.add(TOKEN)
    assert "token expired or not found" in refusal(bench.bot()).message
    assert list(bench.dir.iterdir()) == []


def test_several_destinations_get_the_same_identity(bench):
    bench.bot(destinations=(str(bench.dir / "a"), str(bench.dir / "b"))).once()
    files = [(bench.dir / name / "identity").read_bytes() for name in "ab"]
    assert files[0] == files[1]


def test_a_destination_that_others_may_enter_is_refused_before_the_token_is_spent(bench):
    (bench.dir / "out").mkdir(mode=0o755)
    why = refusal(bench.bot())
    assert isinstance(why, Denied)
    assert "has mode 0755" in why.message
    assert bench.auth.joins == []


def test_a_destination_that_is_a_link_is_refused_before_the_token_is_spent(bench):
    (bench.dir / "out").symlink_to(bench.dir / "gone")
    assert "is a symbolic link" in refusal(bench.bot()).message
    assert bench.auth.joins == []


def test_an_answer_that_was_lost_is_asked_for_again_with_the_same_key(bench):
    bench.auth.failures = [Unavailable("the connection broke")]
    refusal(bench.bot())
    kept = list((bench.dir / "storage").iterdir())
    assert [path.name for path in kept] == ["join-pending.json"]
    pending = kept[0].read_bytes()
    identity = bench.bot().once()
    assert identity.ssh_public.split()[1].encode() in pending


def test_the_identity_of_a_host_is_not_a_bot_s(bench):
    host = bench.auth.identity(Keys.single(), "5f0c6b9e-0000-4000-8000-000000000001", ("Node",))
    identities.save(bench.dir / "storage", host)
    why = refusal(bench.bot())
    assert "holds the identity of a host, a bot needs its own directory" in why.message
    assert bench.auth.renewals == []
    assert identities.load(bench.dir / "storage") == host


@pytest.mark.parametrize("no", [LOCKED, NotFound("bot ci does not exist any more")])
def test_a_refused_renewal_without_a_token_is_the_end(bench, no):
    bench.bot().once()
    before = bench.written()
    bench.auth.failures = [no]
    why = refusal(bench.bot(token=""))
    assert isinstance(why, Denied)
    assert why.message == f"this bot can not renew: {no.message}"
    assert why.hint.startswith("tctl bots add")
    assert bench.written() == before


def test_a_refused_renewal_with_a_new_token_joins_again(bench):
    bench.bot().once()
    bench.auth.failures = [LOCKED]
    again = bench.bot(token="another-token-0123456789").once()
    assert bench.said == ["this bot can not renew: bot ci is locked; joining again with the token"]
    assert identities.load(bench.dir / "storage") == again


def test_an_expired_certificate_is_told_without_asking_auth(bench):
    bench.bot().once()
    bench.clock.tick(hours=2)
    why = refusal(bench.bot(token=""))
    assert "this bot can not renew: certificate can not be used: it has expired on" in why.message
    assert bench.auth.renewals == []


def test_auth_being_away_is_not_a_reason_to_spend_a_token(bench):
    bench.bot().once()
    bench.auth.failures = [AWAY]
    assert refusal(bench.bot(token="another-token-0123456789")) is AWAY
    assert len(bench.auth.joins) == 1


def test_another_length_than_the_cluster_gives_is_said(bench):
    bench.bot(certificate_ttl="8h").once()
    assert bench.said == [
        "--certificate-ttl: the cluster gave 1h0m0s, asking it for 8h0m0s is not part of this"
        " version"
    ]


def test_the_token_reaches_no_line_and_no_file(bench, caplog):
    bench.bot().once()
    bench.auth.failures = [LOCKED]
    refusal(bench.bot())
    assert TOKEN not in caplog.text + "".join(bench.said)
    assert not [name for name, data in bench.written().items() if TOKEN.encode() in data]


# forever


def test_a_bot_renews_every_interval_until_it_is_told_to_stop(bench):
    bench.bot(renewal_interval="20m").forever(Until(bench.clock, timedelta(minutes=90)))
    assert (len(bench.auth.joins), len(bench.auth.renewals)) == (1, 4)


def test_a_wait_is_looked_at_every_minute_so_that_a_sleeping_machine_notices(bench):
    days = Until(bench.clock, timedelta(minutes=30))
    bench.bot().forever(days)
    assert max(days.waits) <= 60
    assert len(bench.auth.renewals) == 1


def test_a_machine_that_slept_renews_as_soon_as_it_is_awake(bench):
    class Lid(Days):
        def wait(self, seconds: float) -> Wake:
            if not self.waits:
                self.clock.tick(minutes=45)
            return super().wait(seconds)

    bench.bot().forever(Lid(bench.clock, Wake.TIME))
    assert len(bench.auth.renewals) == 1


def test_a_signal_renews_now(bench):
    days = Days(bench.clock, Wake.RENEW, Wake.RENEW)
    bench.bot().forever(days)
    assert len(bench.auth.renewals) == 2
    assert bench.clock.now() < bench.auth.paper.now + timedelta(minutes=5)


def test_auth_being_away_is_waited_out_with_growing_pauses(bench):
    bench.auth.failures = [AWAY] * 5
    started = bench.clock.now()
    bench.bot().forever(Until(bench.clock, timedelta(minutes=10)))
    # 5 + 10 + 20 + 40 + 80 seconds, then the sixth try succeeds.
    assert len(bench.auth.joins) == 6
    assert bench.auth.renewals == []
    assert bench.clock.now() - started >= timedelta(minutes=10)


def test_pauses_grow_to_five_minutes_and_no_further(bench):
    bench.bot().once()
    bench.auth.failures = [AWAY] * 100
    with pytest.raises(Denied, match="it has expired on"):
        bench.bot(token="").forever(Until(bench.clock, timedelta(hours=3)))
    # 5, 10, 20, 40, 80, 160 s make 5 min 15 s; then one try every 5 minutes until the hour ends.
    assert len(bench.auth.renewals) == 17


def test_a_no_of_auth_ends_the_process_with_that_error(bench):
    bench.bot().once()
    bench.auth.failures = [LOCKED]
    with pytest.raises(Denied, match="bot ci is locked"):
        bench.bot(token="").forever(Days(bench.clock))


def test_standard_input_is_read_only_once(bench, monkeypatch):
    class Stdin:
        lines = [f"{TOKEN}\n", ""]

        def readline(self, size: int) -> str:
            return self.lines.pop(0)

    monkeypatch.setattr("sys.stdin", Stdin())
    bench.auth.failures = [AWAY]
    bench.bot(token="-").forever(Until(bench.clock, timedelta(minutes=1)))
    assert [asked.token.reveal() for asked in bench.auth.joins] == [TOKEN, TOKEN]


# rotations of CAs


class Rotating(Until):
    """A rotation goes on at the given minutes."""

    def __init__(self, bench: Bench, length: timedelta, *minutes: int) -> None:
        super().__init__(bench.clock, length)
        self.bench, self.begun, self.minutes = bench, bench.clock.now(), list(minutes)

    def wait(self, seconds: float) -> Wake:
        wake = super().wait(seconds)
        if self.minutes and self.clock.now() - self.begun >= timedelta(minutes=self.minutes[0]):
            self.bench.auth.rotating = {"host": f"x/{self.minutes.pop(0)}"}
        return wake


def test_a_rotation_is_followed_within_a_minute_of_each_phase(bench):
    bench.bot(renewal_interval="50m").forever(Rotating(bench, timedelta(minutes=45), 5, 20, 30))
    assert (len(bench.auth.joins), len(bench.auth.renewals)) == (1, 3)


def test_a_rotation_that_stands_still_makes_no_bot_renew_more_often(bench):
    bench.auth.rotating = {"user": "x/init"}
    bench.bot(renewal_interval="20m").forever(Until(bench.clock, timedelta(minutes=50)))
    assert len(bench.auth.renewals) == 3  # the first look comes after the join


def test_auth_that_can_not_be_asked_is_no_rotation(bench):
    bench.auth.rotating = None
    bench.bot(renewal_interval="50m").forever(Until(bench.clock, timedelta(minutes=45)))
    assert len(bench.auth.renewals) == 0


# several servers

A, B, C = "a.example.com:3025", "b.example.com:3025", "c.example.com:3025"


def test_a_bot_goes_on_with_the_next_server_and_stays_there(bench):
    bench.bot(auth_server=f"{A},{B}").once()
    [asked] = bench.auth.joins
    assert asked.servers == (A, B)
    bot = bench.bot(auth_server=f"{A},{B}")
    bench.auth.away = {A}
    bot.once()
    bot.once()
    assert [server for _, server in bench.auth.renewals] == [A, B, B]
    [(keys, patience), (again, _), _] = bench.auth.asked_with
    assert keys is again, "the answer of the first may have been lost"
    assert patience == 5.0
    bench.auth.away = {B}
    bot.once()
    assert [server for _, server in bench.auth.renewals][3:] == [B, A]


def test_a_bot_remembers_the_servers_that_it_was_told_of(bench):
    bench.auth.auths = (A, C)
    bench.bot(auth_server=A).once()
    bench.auth.away = {A}
    bench.bot(auth_server=A, token="").once()
    assert [server for _, server in bench.auth.renewals] == [A, C]


def test_a_bot_that_no_server_answers_says_what_the_first_said(bench):
    bench.bot(auth_server=f"{A},{B}").once()
    bench.auth.away = {A, B}
    why = refusal(bench.bot(auth_server=f"{A},{B}"))
    assert (type(why), why.message) == (Unavailable, f"{A}: connection refused")


def test_a_server_that_says_no_is_not_overruled_by_the_next(bench):
    bench.bot(auth_server=f"{A},{B}").once()
    bench.auth.failures = [LOCKED]
    assert "bot ci is locked" in refusal(bench.bot(auth_server=f"{A},{B}", token="")).message
    assert [server for _, server in bench.auth.renewals] == [A]


def test_rotations_are_heard_of_from_whichever_server_answers(bench):
    bot = bench.bot(auth_server=f"{A},{B}", oneshot=False)
    bot.once()
    bench.auth.away = {A}
    assert bot._heard() == {}
    bench.auth.rotating = {"host": "1/init"}
    assert bot._heard() == {"host": "1/init"}
