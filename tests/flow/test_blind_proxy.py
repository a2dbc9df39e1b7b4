"""What a proxy could learn from a join and a login: nothing that opens a door.

The one exception is the page that sets a password, which the proxy itself serves; that happens
before the proxy whose memory is searched is started.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flow.proxied import PASSWORD, Proxied
from tests.flow.recorder import Recorder
from tests.support import eventually

PAGE = 1 << 24


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    """Stands in front of the proxy and keeps every byte that it sees, both ways."""
    with Recorder() as recorder:
        yield recorder


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, recorder: Recorder) -> Iterator[Proxied]:
    with Proxied(tmp_path_factory.mktemp("blind"), in_front=recorder.port) as running:
        recorder.target = running.proxy_port
        running.set_password(running.invite("alice", "--logins=root", "--roles=access"))
        running.proxy_process.stop()
        running.start_proxy()
        recorder.forget()
        yield running


def test_a_join_shows_the_proxy_no_token(cluster: Proxied, recorder: Recorder) -> None:
    token = cluster.token("node")
    words = (f"--auth-server={cluster.proxy}", f"--token={token}", f"--ca-pin={cluster.pin}")
    cluster.node("far", *words)
    eventually(lambda: cluster.tunnelled("far"), what="far in nodes ls")
    assert recorder.saw, "the join did not come this way"
    assert not _anywhere(cluster, recorder, token)


def test_a_login_shows_the_proxy_no_password(cluster: Proxied, recorder: Recorder) -> None:
    done = cluster.login("alice")
    assert done.returncode == 0, done.stderr
    assert not _anywhere(cluster, recorder, PASSWORD)


def test_the_search_finds_what_is_there(cluster: Proxied, recorder: Recorder) -> None:
    """The name of the cluster is in the memory of a proxy, and in what it passes on."""
    cluster.run("doctor", f"--auth-server={cluster.proxy}")
    assert _anywhere(cluster, recorder, cluster.name) == {"memory", "traffic"}


def _anywhere(cluster: Proxied, recorder: Recorder, secret: str) -> set[str]:
    """Where the secret was found."""
    wanted = [secret.encode(), secret.encode("utf-16-le"), secret.encode("utf-32-le")]
    places = {
        "memory": _memory(cluster.proxy_process.process.pid),
        "traffic": iter([recorder.saw]),
        "log": iter([cluster.proxy_process.said().encode()]),
        "files": (
            path.read_bytes() for path in (cluster.root / "proxy-1").rglob("*") if path.is_file()
        ),
    }
    found = set()
    for name, texts in places.items():
        if any(word in text for text in texts for word in wanted):
            found.add(name)
    return found - ({"log", "files"} if secret == cluster.name else set())


def _memory(pid: int) -> Iterator[bytes]:
    """All that a process can write to, with room for what lies across two pieces."""
    if os.geteuid() != 0:
        pytest.skip("only root may read the memory of a process that hides it")
    with Path(f"/proc/{pid}/maps").open() as maps, Path(f"/proc/{pid}/mem").open("rb", 0) as memory:
        for line in maps:
            span, rights, *_ = line.split()
            begin, end = (int(part, 16) for part in span.split("-"))
            if "w" not in rights:
                continue
            for at in range(begin, end, PAGE):
                try:
                    memory.seek(at)
                    yield memory.read(min(PAGE, end - at) + 256)
                except (OSError, ValueError, OverflowError):
                    continue
