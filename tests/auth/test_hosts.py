"""Who is there: presence, from the first word to the last listing."""

from dataclasses import replace
from datetime import timedelta

import pytest

from teleport_lite.auth.hosts import GRACE, MAX_ADDRESSES, MAX_TUNNELS, SURELY_ALIVE, Live, Presence
from teleport_lite.errors import Malformed
from teleport_lite.model.host import LOCAL, Host, presence
from teleport_lite.proto.stream import Announced, Beat, ProxyPlace
from teleport_lite.store.memory import MemoryStore
from teleport_lite.testing.fakes import T0, FakeClock
from tests.auth.meanwhile import before_writing

KINDS = frozenset({"node", "app_server"})
PROXY_ID = "aaaaaaaa-2222-4333-8444-555555555555"
PLACE = ProxyPlace(
    id="of another",
    name="of another",
    address="10.0.0.7:3080",
    public=["proxy.example:443"],
    tunnel_public=["proxy.example:3024"],
    ssh_public=["proxy.example:3023"],
)


class Hall:
    """Presence, with a store that knows two hosts."""

    def __init__(self) -> None:
        self.clock, self.store = FakeClock(), MemoryStore()
        self.presence = Presence(clock=self.clock, store=self.store)
        self.told: list[str] = []
        for host_id in ("h1", "h2"):
            host = Host(
                id=host_id,
                name=host_id,
                roles=("Node",),
                joined_at=T0,
                token_id="t",
                ssh_key=f"key {host_id}",
                tls_key="PEM",
            )
            self.store.write(lambda tx, host=host: tx.put_host(host))

    def live(self, host_id: str = "h1", boot: str = "boot-1") -> Live:
        return Live(
            host_id=host_id,
            boot_id=boot,
            address="192.0.2.7",
            version="1",
            push=lambda: self.told.append(f"{boot} taught"),
            cut=lambda why: self.told.append(f"{boot} cut: {why}"),
            last_beat=self.clock.now(),
        )

    def beat(self, live: Live, *, is_proxy: bool = False, **said) -> float:
        beat = Beat(**{"time": self.clock.now().timestamp(), **said})
        return self.presence.beat(live, beat, KINDS, is_proxy=is_proxy)

    def proxy(self, host_id: str = "h1", boot: str = "boot-1") -> Live:
        """A proxy that is there."""
        live = self.live(host_id, boot)
        self.presence.arrive(live)
        self.beat(live, is_proxy=True, proxy=PLACE)
        return live

    def proxies(self) -> list[str]:
        return [place.id for place in self.presence.proxies()]

    def state(self, host_id: str = "h1") -> str:
        [report] = [report for host, report in self.presence.hosts() if host.id == host_id]
        return presence(report, self.clock.now()).value


def test_a_host_is_online_from_its_first_word_until_it_falls_silent() -> None:
    hall = Hall()
    assert hall.state() == "offline"
    live = hall.live()
    assert hall.presence.arrive(live) is None
    assert (hall.state(), hall.state("h2")) == ("online", "offline")
    hall.clock.tick(seconds=46)
    assert hall.state() == "stale"
    hall.beat(live)
    assert hall.state() == "online"
    hall.clock.tick(minutes=3)
    assert hall.state() == "offline"


def test_a_goodbye_is_believed_and_a_broken_stream_is_waited_for() -> None:
    hall = Hall()
    for said_goodbye, state in (False, "online"), (True, "offline"):
        live = hall.live()
        hall.presence.arrive(live)
        hall.presence.leave(live, said_goodbye=said_goodbye)
        assert hall.state() == state
    assert hall.presence.connected() == 0


def test_a_host_that_comes_back_after_its_goodbye_is_online() -> None:
    hall = Hall()
    live = hall.live()
    hall.presence.arrive(live)
    hall.presence.leave(live, said_goodbye=True)
    hall.presence.arrive(hall.live(boot="boot-2"))
    assert hall.state() == "online"


def test_a_second_process_is_refused_while_the_first_one_beats() -> None:
    hall = Hall()
    first = hall.live()
    hall.presence.arrive(first)
    hall.clock.tick(seconds=SURELY_ALIVE.total_seconds() - 0.1)
    assert hall.presence.arrive(hall.live(boot="clone")) is first
    hall.beat(first)
    hall.clock.tick(seconds=15)
    assert hall.presence.arrive(hall.live(boot="clone")) is first
    assert hall.told == []


def test_after_a_silence_the_second_takes_over_and_the_first_is_cut() -> None:
    hall = Hall()
    first, second = hall.live(), hall.live(boot="boot-2")
    hall.presence.arrive(first)
    hall.clock.tick(seconds=SURELY_ALIVE.total_seconds())
    second.last_beat = hall.clock.now()
    assert hall.presence.arrive(second) is None
    assert hall.told == ["boot-1 cut: this host has connected anew"]
    hall.presence.leave(first, said_goodbye=True)
    assert hall.state() == "online"
    assert hall.presence.connected() == 1


def test_the_same_process_may_connect_again_at_once() -> None:
    hall = Hall()
    hall.presence.arrive(hall.live())
    assert hall.presence.arrive(hall.live()) is None
    assert hall.presence.connected() == 1


def test_a_beat_tells_how_far_the_clocks_are_apart() -> None:
    hall = Hall()
    live = hall.live()
    hall.presence.arrive(live)
    assert hall.beat(live, time=T0.timestamp() + 31) == 31
    [report] = [report for host, report in hall.presence.hosts() if host.id == "h1"]
    assert report.skew == 31


def test_what_was_reported_stays_until_the_next_report() -> None:
    hall = Hall()
    live = hall.live()
    hall.presence.arrive(live)
    app = Announced(kind="app_server", name="grafana", spec={"uri": "http://x"})
    hall.beat(live, address="10.0.0.5:3022", labels={"env": "prod"}, resources=[app])
    hall.presence.leave(live, said_goodbye=False)
    [report] = [report for host, report in hall.presence.hosts() if host.id == "h1"]
    assert (report.address, report.labels) == ("10.0.0.5:3022", {"env": "prod"})
    assert report.resources[0].spec == {"uri": "http://x"}


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        ({"labels": {"a b": "c"}}, "label key"),
        ({"labels": {"env": "\x1b[2J"}}, "printable"),
        ({"labels": {"teleport.internal/x": "y"}}, "reserved"),
        ({"address": "\x1b]0;owned\x07"}, "address"),
        ({"address": "10.0.0.5:3022\n"}, "address"),
        ({"resources": [Announced(kind="app_server", name="a b")]}, "app_server name"),
        ({"resources": [Announced(kind="app_server", name="a", labels={"*": ""})]}, "label key"),
        ({"resources": [Announced(kind="app_server", name="a", spec={"u": "\x1b"})]}, "printable"),
    ],
)
def test_what_people_should_not_find_in_a_listing_is_refused(said, cause: str) -> None:
    hall = Hall()
    live = hall.live()
    hall.presence.arrive(live)
    hall.beat(live, labels={"env": "prod"})
    with pytest.raises(Malformed, match=cause) as why:
        hall.beat(live, **said)
    assert why.value.message.isprintable()
    [report] = [report for host, report in hall.presence.hosts() if host.id == "h1"]
    assert report.labels == {"env": "prod"}


@pytest.mark.parametrize("kind", ["db_server", "user", "of a later version\x1b"])
def test_what_its_roles_do_not_announce_is_passed_over(kind: str) -> None:
    hall = Hall()
    live = hall.live()
    hall.presence.arrive(live)
    app = Announced(kind="app_server", name="grafana")
    hall.beat(live, resources=[Announced(kind=kind, name="x"), app])
    [report] = [report for host, report in hall.presence.hosts() if host.id == "h1"]
    assert [each.name for each in report.resources] == ["grafana"]


def test_everybody_is_told_and_one_is_cut() -> None:
    hall = Hall()
    hall.presence.arrive(hall.live())
    hall.presence.arrive(hall.live("h2", "boot-2"))
    hall.presence.tell_everybody()
    assert hall.told == ["boot-1 taught", "boot-2 taught"]
    hall.presence.cut("h2", "locked")
    hall.presence.cut("nobody", "locked")
    assert hall.told[2:] == ["boot-2 cut: locked"]


def test_reports_are_written_in_batches_and_once() -> None:
    hall = Hall()
    live = hall.live()
    hall.presence.arrive(live)
    hall.beat(live, labels={"env": "prod"})
    assert hall.store.host("h1")[1].labels == {}  # type: ignore[index]
    assert hall.presence.flush() == 1
    assert hall.store.host("h1")[1].labels == {"env": "prod"}  # type: ignore[index]
    assert hall.presence.flush() == 0


def test_after_a_restart_the_last_report_is_still_there() -> None:
    hall = Hall()
    live = hall.live()
    hall.presence.arrive(live)
    hall.beat(live, labels={"env": "prod"})
    hall.presence.flush()
    again = Presence(clock=hall.clock, store=hall.store)
    [report] = [report for host, report in again.hosts() if host.id == "h1"]
    assert report.labels == {"env": "prod"}


def test_a_host_that_nobody_has_seen_for_long_leaves_the_listings() -> None:
    hall = Hall()
    hall.clock.tick(days=6)
    hall.presence.arrive(hall.live())
    hall.clock.tick(days=2)
    assert hall.presence.retire(timedelta(days=7)) == ["h2"]
    assert [host.id for host, _ in hall.presence.hosts()] == ["h1"]
    assert hall.presence.retire(timedelta(days=7)) == []


def test_the_auth_host_itself_stays() -> None:
    hall = Hall()
    host = hall.store.host("h1")[0]  # type: ignore[index]
    hall.store.write(lambda tx: tx.put_host(replace(host, token_id=LOCAL)))
    hall.clock.tick(days=400)
    assert hall.presence.retire(timedelta(days=7)) == ["h2"]


def test_a_host_that_comes_back_while_it_is_retired_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    hall = Hall()
    hall.clock.tick(days=8)
    before_writing(monkeypatch, hall.store, lambda: hall.presence.arrive(hall.live()))
    assert hall.presence.retire(timedelta(days=7)) == ["h2"]
    assert [host.id for host, _ in hall.presence.hosts()] == ["h1"]


def test_who_writes_slowly_does_not_write_what_is_older(monkeypatch: pytest.MonkeyPatch) -> None:
    hall = Hall()
    live = hall.live()
    hall.presence.arrive(live)
    hall.beat(live, address="10.0.0.1:3022")

    def overtake() -> None:
        hall.beat(live, address="10.0.0.2:3022")
        hall.presence.flush()

    before_writing(monkeypatch, hall.store, overtake)
    hall.presence.flush()
    kept = hall.store.host("h1")
    assert kept is not None
    assert kept[1].address == "10.0.0.2:3022"


def test_a_goodbye_is_written_when_it_is_taken_also_if_a_chore_is_about_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of two auth servers the other one may be asked at once."""
    hall, gone = Hall(), list[bool]()
    presence = hall.presence
    presence.me = "me"
    live, flush = hall.live(), presence.flush
    presence.arrive(live)

    def chore_first(only: list[str]) -> int:
        def goodbye() -> None:
            flush(only)
            kept = hall.store.host("h1")
            assert kept is not None
            gone.append(kept[1].gone)

        before_writing(monkeypatch, hall.store, goodbye)
        return flush()

    monkeypatch.setattr(presence, "flush", chore_first)
    presence.leave(live, said_goodbye=True)
    assert gone == [True]


def test_what_a_host_says_after_it_was_cut_does_not_count() -> None:
    hall = Hall()
    live = hall.live()
    hall.presence.arrive(live)
    hall.presence.cut("h1", "it is locked")
    hall.beat(live)  # was on its way
    [report] = [report for host, report in hall.presence.hosts() if host.id == "h1"]
    assert report.gone


def test_a_host_that_is_gone_is_not_written_again() -> None:
    hall = Hall()
    live = hall.live()
    hall.presence.arrive(live)
    hall.store.write(lambda tx: tx.remove_host("h1"))
    hall.presence.forget("h1")
    assert hall.presence.flush() == 0
    hall.beat(live)
    hall.presence.flush()
    assert hall.store.host("h1") is None


# Tunnels and proxies


def test_tunnels_are_kept_until_the_next_beat() -> None:
    hall = Hall()
    live = hall.live()
    hall.presence.arrive(live)
    hall.beat(live, tunnels=[PROXY_ID, PROXY_ID])
    hall.presence.flush()
    assert hall.store.host("h1")[1].tunnels == (PROXY_ID,)  # type: ignore[index]
    hall.beat(live)
    hall.presence.flush()
    assert hall.store.host("h1")[1].tunnels == ()  # type: ignore[index]


def test_who_a_proxy_is_comes_from_what_auth_knows() -> None:
    hall = Hall()
    hall.proxy()
    [place] = hall.presence.proxies()
    assert (place.id, place.name) == ("h1", "h1")
    assert (place.address, place.public) == (PLACE.address, PLACE.public)
    assert (place.tunnel_public, place.ssh_public) == (PLACE.tunnel_public, PLACE.ssh_public)


def test_a_host_without_the_role_can_not_be_a_proxy() -> None:
    hall = Hall()
    live = hall.live()
    hall.presence.arrive(live)
    with pytest.raises(Malformed, match="without role Proxy"):
        hall.beat(live, proxy=PLACE)
    assert hall.proxies() == []


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        ({"tunnels": ["not an id"]}, "proxy id 'not an id' is not valid"),
        ({"tunnels": ["\x1b[2J"]}, "proxy id"),
        ({"tunnels": [PROXY_ID] * (MAX_TUNNELS + 1)}, "257 tunnels of a host, the most is 256"),
        ({"proxy": ProxyPlace(address="\x1b")}, "address"),
        ({"proxy": ProxyPlace(public=["a b"])}, "address"),
        ({"proxy": ProxyPlace(tunnel_public=["a/b"])}, "address"),
        ({"proxy": ProxyPlace(ssh_public=["a:1\n"])}, "address"),
        ({"proxy": ProxyPlace(public=["a:1"] * (MAX_ADDRESSES + 1))}, "33 addresses of a proxy"),
    ],
)
def test_what_a_proxy_says_of_itself_is_checked(said, cause: str) -> None:
    hall = Hall()
    live = hall.live()
    hall.presence.arrive(live)
    with pytest.raises(Malformed, match=cause) as why:
        hall.beat(live, is_proxy=True, **said)
    assert why.value.message.isprintable()


def test_a_proxy_leaves_with_its_goodbye_and_thirty_seconds_after_silence() -> None:
    hall = Hall()
    first, second = hall.proxy("h1"), hall.proxy("h2", "boot-2")
    assert hall.proxies() == ["h1", "h2"]
    hall.presence.leave(first, said_goodbye=True)
    assert hall.proxies() == ["h2"]
    hall.presence.leave(second, said_goodbye=False)
    hall.clock.tick(seconds=29.9)
    assert hall.proxies() == ["h2"]
    hall.clock.tick(seconds=0.1)
    assert hall.proxies() == []
    hall.proxy("h1", "boot-3")
    assert hall.proxies() == ["h1"]


def test_a_stream_that_is_open_and_silent_is_no_proxy() -> None:
    hall = Hall()
    hall.proxy()
    hall.clock.tick(seconds=30)
    assert hall.proxies() == []


def test_a_proxy_that_stops_being_one_or_is_cut_or_removed_is_none() -> None:
    for end in ("beat", "cut", "remove"):
        hall = Hall()
        live = hall.proxy()
        if end == "beat":
            hall.beat(live, is_proxy=True)
        elif end == "cut":
            hall.presence.cut("h1", "this host is locked")
        else:
            hall.store.write(lambda tx: tx.remove_host("h1"))
            hall.presence.forget("h1")
        assert hall.proxies() == [], end


def test_a_restart_of_auth_takes_no_proxy_down() -> None:
    """Agents come back before the proxies do, and must not hear that there are none."""
    hall = Hall()
    hall.proxy("h1")
    gone = hall.proxy("h2", "boot-2")
    hall.presence.leave(gone, said_goodbye=True)
    hall.presence.flush()
    hall.clock.tick(hours=1)
    hall.presence = Presence(clock=hall.clock, store=hall.store)
    assert hall.proxies() == ["h1"]
    hall.clock.tick(seconds=GRACE.total_seconds() - 1)
    assert hall.proxies() == ["h1"]
    hall.clock.tick(seconds=1)
    assert hall.proxies() == []


def test_after_a_restart_a_proxy_that_was_away_for_longer_is_not_waited_for() -> None:
    hall = Hall()
    hall.proxy("h1")
    hall.clock.tick(seconds=40)
    hall.proxy("h2", "boot-2")
    hall.presence.flush()
    again = Presence(clock=hall.clock, store=hall.store)
    assert [place.id for place in again.proxies()] == ["h2"]


def test_who_came_back_after_a_restart_is_not_waited_for_again() -> None:
    hall = Hall()
    hall.proxy("h1")
    hall.presence.flush()
    hall.presence = Presence(clock=hall.clock, store=hall.store)
    hall.proxy("h1", "boot-2")
    hall.clock.tick(seconds=30)
    assert hall.proxies() == []


def test_what_moved_is_told_once() -> None:
    hall = Hall()
    live = hall.live()
    hall.presence.arrive(live)
    assert hall.presence.moved() == {"h1"}
    hall.beat(live)
    assert hall.presence.moved() == set()
    for said in ({"address": "10.0.0.1:1"}, {"labels": {"a": "b"}}, {"tunnels": [PROXY_ID]}):
        hall.beat(live, **said)
        assert hall.presence.moved() == {"h1"}
    hall.presence.leave(live, said_goodbye=False)
    hall.presence.arrive(live)
    assert hall.presence.moved() == {"h1"}, "it may have joined under another name meanwhile"
    hall.presence.leave(live, said_goodbye=True)
    assert hall.presence.moved() == {"h1"}
    hall.presence.forget("h1")
    assert hall.presence.moved() == {"h1"}


def test_one_host_with_the_freshest_report() -> None:
    hall = Hall()
    live = hall.live()
    hall.presence.arrive(live)
    hall.beat(live, labels={"env": "prod"})
    found = hall.presence.host("h1")
    assert found is not None
    assert (found[0].id, found[1].labels) == ("h1", {"env": "prod"})
    assert hall.presence.host("nobody") is None
    assert set(hall.presence.reports()) == {"h1"}
