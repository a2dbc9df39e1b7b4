"""Which node is meant, and what is kept for the time auth is away."""

import asyncio
import json
import logging
import stat
import threading
from pathlib import Path

import pytest

from teleport_lite.errors import Conflict, Error, Malformed, NotFound
from teleport_lite.pki.keyfile import write_secret
from teleport_lite.proto.stream import Route
from teleport_lite.proxy import routes as module
from teleport_lite.proxy.routes import FILE, RouteTable
from teleport_lite.testing.fakes import FakeClock
from tests.net.serving import LOOPS
from tests.proxy.rig import CLUSTER, host_id, route, routes, run, until

WEB = route(1, "web-1", address="10.0.0.1:3022", labels={"env": "prod", "role": "web"})
DB = route(2, "db-1", labels={"env": "prod", "role": "db"})
DEV = route(3, "Dev.Example.com", labels={"env": "dev", "Team": "Blue"})
TWIN = route(4, "twin", address="10.0.0.4:3022", labels={"env": "prod"})
OTHER_TWIN = route(5, "twin")
ALL = (WEB, DB, DEV, TWIN, OTHER_TWIN)


def a_table(path: Path, *hosts: Route, clock: FakeClock | None = None) -> RouteTable:
    table = RouteTable(path, clock=clock or FakeClock(), cluster=CLUSTER)
    if hosts:
        table.apply(routes(*hosts))
    return table


def everything(_route: Route) -> bool:
    return True


@pytest.fixture
def table(tmp_path: Path) -> RouteTable:
    return a_table(tmp_path, *ALL)


@pytest.mark.parametrize(
    ("host", "found"),
    [
        ("web-1", WEB),
        ("WEB-1", WEB),
        ("web-1.", WEB),
        ("web-1.test.example", WEB),
        ("web-1.TEST.example", WEB),
        (host_id(2), DB),
        (f"{host_id(2)}.test.example", DB),
        (host_id(5), OTHER_TWIN),
        ("dev.example.com", DEV),
        ("role=db", DB),
        ("env=prod,role=web", WEB),
        ("Team=Blue", DEV),
        ("team=blue", DEV),  # as OpenSSH's client writes it
    ],
)
def test_a_node_is_found_by(table: RouteTable, host: str, found: Route) -> None:
    assert table.find(host, everything) is found


@pytest.mark.parametrize(
    "host",
    [
        "nobody",
        "web",
        "10.0.0.1",
        host_id(9),
        "web-1.other.example",
        "env=test",
        "role=web,env=dev",
    ],
)
def test_what_is_not_there_is_not_found(table: RouteTable, host: str) -> None:
    with pytest.raises(NotFound):
        table.find(host, everything)


@pytest.mark.parametrize(
    "host", ["", "x" * 256, "web\n1", "web\0", "=", "env=prod,,", "env", 'a="b', "web-1\u202e"]
)
def test_a_host_that_is_none_is_refused(table: RouteTable, host: str) -> None:
    with pytest.raises((Malformed, NotFound)):
        table.find(host, everything)


def test_a_name_with_several_nodes_lists_them(table: RouteTable) -> None:
    with pytest.raises(Conflict) as no:
        table.find("twin", everything)
    assert no.value.message == (
        f"twin can mean 2 nodes: {host_id(4)} (twin, 10.0.0.4:3022, env=prod); "
        f"{host_id(5)} (twin, tunnel)"
    )
    assert no.value.hint == f"use the UUID: ssh {host_id(4)}"


def test_labels_that_fit_several_nodes_list_them(table: RouteTable) -> None:
    with pytest.raises(Conflict, match="env=prod can mean 3 nodes"):
        table.find("env=prod", everything)


def test_a_long_list_is_cut(tmp_path: Path) -> None:
    table = a_table(tmp_path, *(route(n, "same") for n in range(100)))
    with pytest.raises(Conflict, match="; and 92 more"):
        table.find("same", everything)


def test_only_what_the_caller_may_see_counts(table: RouteTable) -> None:
    """Neither in the answer nor in the list is there a trace of the rest."""

    def sees(each: Route) -> bool:
        return each.id in (host_id(4), host_id(3))

    assert table.find("twin", sees) is TWIN
    assert table.find("env=prod", sees) is TWIN
    hidden = _refusal(table, "web-1", sees)
    missing = _refusal(table, "web-7", sees)
    assert hidden.message.replace("web-1", "web-7") == missing.message
    by_id = _refusal(table, host_id(1), sees)
    assert by_id.message == _refusal(table, host_id(8), sees).message.replace(
        host_id(8), host_id(1)
    )
    assert "db-1" not in _refusal(table, "db-2", sees).message
    assert _refusal(table, "role=db", sees).message.replace("db", "x") == (
        _refusal(table, "role=x", sees).message
    )


def _refusal(table: RouteTable, host: str, sees: module.Sees) -> Error:
    with pytest.raises(NotFound) as no:
        table.find(host, sees)
    return no.value


def test_a_slip_of_the_finger_is_told(table: RouteTable) -> None:
    refused = _refusal(table, "wbe-1", everything)
    assert refused.message == ("there is no node wbe-1 that you may reach, did you mean web-1")
    assert refused.hint == "tsh ls"


def test_a_name_that_ends_like_the_cluster_is_a_name_first(tmp_path: Path) -> None:
    long, short = route(1, "web.test.example"), route(2, "web")
    table = a_table(tmp_path, long, short)
    assert table.find("web.test.example", everything) is long
    assert table.find("web", everything) is short


# --- what auth says


def test_changes_are_applied_to_what_is_there(table: RouteTable) -> None:
    renamed = route(1, "www-1")
    table.apply(routes(renamed, route(6, "new"), first=False, gone=(host_id(2),)))
    assert table.find("www-1", everything) is renamed
    assert table.get(host_id(2)) is None
    for gone in ("web-1", "db-1"):
        with pytest.raises(NotFound):
            table.find(gone, everything)
    assert table.find("new", everything).id == host_id(6)
    assert len(table) == 5


def test_a_first_frame_replaces_everything_once_the_rest_has_come(tmp_path: Path) -> None:
    """It may take many frames; until then nobody is turned away."""
    clock = FakeClock()
    table = a_table(tmp_path, *ALL, clock=clock)
    table.apply(routes(WEB))
    clock.tick(seconds=1)
    table.apply(routes(DB, first=False))
    assert table.find("dev.example.com", everything) is DEV
    clock.tick(minutes=2)
    with pytest.raises(NotFound):
        table.find("dev.example.com", everything)
    assert len(table) == 2


def test_what_is_gone_twice_or_never_was_is_no_matter(table: RouteTable) -> None:
    table.apply(routes(first=False, gone=(host_id(1), host_id(1), "nonsense")))
    assert len(table) == 4


# --- the file


def test_the_table_is_kept_for_the_time_auth_is_away(tmp_path: Path) -> None:
    clock = FakeClock()
    asyncio.run(a_table(tmp_path, *ALL, clock=clock).close())
    file = tmp_path / FILE
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    clock.tick(hours=23)
    assert a_table(tmp_path, clock=clock).find("web-1", everything) == WEB
    clock.tick(hours=2)
    assert len(a_table(tmp_path, clock=clock)) == 0


def test_a_table_from_the_future_is_not_believed(tmp_path: Path) -> None:
    clock = FakeClock()
    asyncio.run(a_table(tmp_path, *ALL, clock=clock).close())
    clock.set(clock.now().replace(year=2025))
    assert len(a_table(tmp_path, clock=clock)) == 0


@pytest.mark.parametrize("words", ["", "{", "[]", '{"saved_at": 1}', '{"hosts": [{"id": 1}]}'])
def test_a_damaged_file_is_as_good_as_none(
    tmp_path: Path, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / FILE).touch(mode=0o600)
    (tmp_path / FILE).write_text(words)
    with caplog.at_level(logging.WARNING):
        assert len(a_table(tmp_path)) == 0
    assert "routes of the last time are not used" in caplog.text


def test_a_file_that_others_may_write_is_not_used(tmp_path: Path) -> None:
    asyncio.run(a_table(tmp_path, *ALL).close())
    (tmp_path / FILE).chmod(0o666)
    assert len(a_table(tmp_path)) == 0


@pytest.mark.parametrize("loop", sorted(LOOPS))
def test_a_burst_of_changes_is_written_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loop: str
) -> None:
    written: list[int] = []

    def counted(path: Path, data: bytes) -> None:
        written.append(len(json.loads(data)["hosts"]))
        write_secret(path, data)

    monkeypatch.setattr(module, "write_secret", counted)
    monkeypatch.setattr(module, "_DEBOUNCE", 0.3)

    async def body() -> None:
        table = a_table(tmp_path)
        for number in range(20):
            table.apply(routes(route(number), first=False))
        await until(lambda: written, "the table to be saved")
        assert written == [20]
        table.apply(routes(first=False, gone=(host_id(1),)))
        await until(lambda: len(written) == 2, "the change to be saved")
        await table.close()
        assert written[1:] == [19, 19]

    run(loop, body)


@pytest.mark.parametrize("loop", sorted(LOOPS))
def test_what_changes_while_a_slow_disk_writes_is_written_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loop: str
) -> None:
    written: list[int] = []
    begun, goes_on = threading.Event(), threading.Event()

    def slowly(path: Path, data: bytes) -> None:
        begun.set()
        assert goes_on.wait(60)
        written.append(len(json.loads(data)["hosts"]))

    monkeypatch.setattr(module, "write_secret", slowly)
    monkeypatch.setattr(module, "_DEBOUNCE", 0.05)

    async def body() -> None:
        table = a_table(tmp_path, WEB)
        table.apply(routes(first=False))
        await until(begun.is_set, "the first save to begin")
        table.apply(routes(DB, first=False))
        timer = table._timer
        await until(lambda: table._timer is not timer, "the second save to be due")
        goes_on.set()
        await until(lambda: written[1:2], "the second save")
        assert written[:2] == [1, 2]
        await table.close()

    try:
        run(loop, body)
    finally:
        goes_on.set()


@pytest.mark.parametrize("loop", sorted(LOOPS))
def test_a_table_that_is_closed_writes_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loop: str
) -> None:
    """The file is that of the next process, and this one may go on for hours."""
    written: list[Path] = []
    monkeypatch.setattr(module, "write_secret", lambda path, _data: written.append(path))

    async def body() -> None:
        table = a_table(tmp_path, WEB)
        await table.close()
        assert len(written) == 1
        table.apply(routes(DB, first=False))
        assert table.find("db-1", everything) is DB
        assert table._timer is None

    run(loop, body)


def test_a_disk_that_is_full_is_told_and_survived(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table = a_table(tmp_path / "gone", *ALL)
    asyncio.run(table.close())
    assert "routes can not be saved" in caplog.text
    assert table.find("web-1", everything) is WEB
