"""Joining and being reached through a proxy, on loopback, as the two guides spell it."""

from collections.abc import Iterator

import pytest

from tests.flow.proxied import Proxied
from tests.support import eventually

ERROR, DENIED, UNREACHABLE = 1, 4, 5


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxied]:
    with Proxied(tmp_path_factory.mktemp("proxied")) as running:
        yield running


def test_the_guides_name_a_proxy_in_three_ways(cluster: Proxied) -> None:
    """--auth-server=proxy:3080 (guide A), --proxy= and proxy_server: (guide B) are alike."""
    token, pin = cluster.token("node"), f"--ca-pin={cluster.pin}"
    config = cluster.root / "guide.yaml"
    words = ("node", "configure", f"--token={token}", f"--proxy={cluster.proxy}", pin)
    done = cluster.run(*words, f"--output=file://{config}")
    assert done.returncode == 0, done.stderr
    assert f"proxy_server: {cluster.proxy}" in config.read_text()
    cluster.node("by-auth-server", f"--auth-server={cluster.proxy}", f"--token={token}", pin)
    cluster.node("by-proxy", f"--proxy={cluster.proxy}", f"--token={token}", pin)
    cluster.start("-c", str(config), name="by-file")
    for name in ("by-auth-server", "by-proxy", "by-file"):
        eventually(lambda name=name: cluster.tunnelled(name), what=f"{name} in nodes ls")


def test_a_node_behind_a_proxy_listens_nowhere(cluster: Proxied) -> None:
    flags = (f"--token={cluster.token('node')}", f"--ca-pin={cluster.pin}")
    running = cluster.node("quiet", f"--proxy={cluster.proxy}", *flags)
    running.wait_for("ssh service listens nowhere")


def test_a_restart_needs_neither_token_nor_auth(cluster: Proxied) -> None:
    flags = (f"--token={cluster.token('node')}", f"--ca-pin={cluster.pin}")
    where = f"--auth-server={cluster.proxy}"
    running = cluster.node("again", where, *flags)
    eventually(lambda: cluster.tunnelled("again"), what="again in nodes ls")
    running.stop()
    cluster.auth.stop()
    running = cluster.node("again", where)
    running.wait_for("tunnel to proxy", seconds=30)
    assert running.said().count("tunnel to proxy") >= 2
    cluster.start_auth()
    eventually(lambda: cluster.tunnelled("again"), what="again in nodes ls")


@pytest.mark.parametrize(
    ("flags", "code", "says"),
    [
        (("--token=not-a-token-of-this-cluster",), DENIED, "token expired or not found"),
        (("--ca-pin=sha256:" + "0" * 64,), DENIED, "pin"),
        (("--roles=app",), DENIED, "app"),
    ],
)
def test_refusals_are_as_good_as_without_a_proxy(
    cluster: Proxied, flags: tuple[str, ...], code: int, says: str
) -> None:
    given = {"--roles": "node", "--token": cluster.token("node"), "--ca-pin": cluster.pin}
    given |= dict(flag.split("=", 1) for flag in flags)
    words = (f"{name}={value}" for name, value in given.items())
    done = cluster.fails(f"--proxy={cluster.proxy}", *words, name="refused")
    assert done.returncode == code, done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
    assert len(errors) == 1
    assert says in errors[0].lower()
    assert not (cluster.root / "refused").exists()


def test_auth_is_no_proxy_and_says_so(cluster: Proxied) -> None:
    flags = (f"--token={cluster.token('node')}", f"--ca-pin={cluster.pin}", "--roles=node")
    done = cluster.fails(f"--proxy={cluster.address}", *flags, name="mistaken")
    assert done.returncode in (ERROR, UNREACHABLE)
    assert "not a proxy" in done.stderr or "auth server" in done.stderr
    assert f"--auth-server={cluster.address}" in done.stderr


def test_a_proxy_behind_a_proxy_is_refused(cluster: Proxied) -> None:
    flags = (f"--token={cluster.token('proxy')}", f"--ca-pin={cluster.pin}", "--roles=proxy")
    done = cluster.fails(f"--auth-server={cluster.proxy}", *flags, name="second")
    assert done.returncode == ERROR
    assert "is a proxy itself" in done.stderr


def test_doctor_tells_a_proxy_from_auth(cluster: Proxied) -> None:
    done = cluster.run("doctor", f"--auth-server={cluster.proxy}", f"--ca-pin={cluster.pin}")
    assert done.returncode == 0, done.stderr
    assert "proxy" in done.stdout
