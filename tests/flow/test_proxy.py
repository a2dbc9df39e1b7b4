"""Joining and being reached through a proxy, on loopback, as the two guides spell it."""

import os
import pwd
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from teleport_lite import __version__
from tests.flow.proxied import Proxied
from tests.support import eventually, free_port

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
    try:
        running = cluster.node("again", where)
        running.wait_for("reached through 1 proxy")
    finally:
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


def test_the_guides_ask_the_proxy_for_the_version(cluster: Proxied) -> None:
    where = f"https://{cluster.proxy}/v1/webapi"
    script = f"""
        curl -sSk {where}/automaticupgrades/channel/default/version | sed 's/v//'; echo
        curl -sSk {where}/ping | jq -r .server_version
    """
    said = subprocess.check_output(["bash", "-c", script], text=True, timeout=60).split()
    assert said == [__version__, __version__]


def test_one_port_for_web_and_tunnels_is_told_in_the_log(cluster: Proxied) -> None:
    cluster.proxy_process.wait_for(
        "Setup Proxy: Reverse tunnel proxy and web proxy listen on the same port, "
        "multiplexing is on."
    )


def test_a_user_of_the_guides_logs_in_and_administers_from_her_desk(cluster: Proxied) -> None:
    """tsh login --proxy=... --user=email@example.com, then tctl, with nothing else given."""
    user = "email@example.com"
    cluster.set_password(cluster.invite(user, "--logins=root", "--roles=access,editor"))
    done = cluster.login(user)
    assert done.returncode == 0, done.stderr
    assert f"Logged in as:       {user}" in done.stdout
    tctl = cluster.run("tctl", "status")
    assert tctl.returncode == 0, tctl.stderr
    assert cluster.name in tctl.stdout
    assert cluster.pin in tctl.stdout
    token = cluster.run("tctl", "tokens", "add", "--type=node", "--format=text")
    assert token.returncode == 0, token.stderr
    assert cluster.run("tsh", "logout").returncode == 0
    assert cluster.run("tctl", "status").returncode != 0


def test_a_node_is_reached_by_plain_ssh_on_what_tsh_prints(
    cluster: Proxied, tmp_path: Path
) -> None:
    flags = (f"--token={cluster.token('node')}", f"--ca-pin={cluster.pin}")
    cluster.node("reached", f"--proxy={cluster.proxy}", *flags)
    me = pwd.getpwuid(os.getuid()).pw_name
    cluster.set_password(cluster.invite("carol", f"--logins={me}", "--roles=access"))
    assert cluster.login("carol").returncode == 0
    config = tmp_path / "ssh_config"
    config.write_text(cluster.run("tsh", "config").stdout)
    eventually(lambda: cluster.tunnelled("reached"), what="reached in nodes ls")
    words = ("ssh", "-F", str(config), f"{me}@reached.{cluster.name}", "echo $SSH_TELEPORT_USER")

    def said() -> str:
        done = subprocess.run(words, capture_output=True, text=True, env=cluster.env, timeout=60)
        return done.stdout

    # A proxy hears of nodes a moment later than `tctl nodes ls`.
    eventually(lambda: said() == "carol\n", what="a way to the node")

    def of_the_proxy() -> list[dict[str, Any]]:
        found = [each for each in cluster.events("session.data") if "via" in each]
        return [each for each in found if each["outcome"] == "ok"]

    [event] = eventually(of_the_proxy, what="the bytes in the trail")
    assert event["user"] == "carol"
    assert int(event["bytes_up"]) > 0
    assert int(event["bytes_down"]) > 0


def test_ports_of_their_own_work_as_in_version_1(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """3080 for the web, 3023 for ssh, 3024 for tunnels: what guide A calls the default."""
    root = tmp_path_factory.mktemp("ports")
    ssh, tunnel = free_port(), free_port()
    extra = f"  listen_addr: 127.0.0.1:{ssh}\n  tunnel_listen_addr: 127.0.0.1:{tunnel}\n"
    with Proxied(root, proxy_extra=extra) as cluster:
        flags = (f"--token={cluster.token('node')}", f"--ca-pin={cluster.pin}")
        running = cluster.node("apart", f"--auth-server={cluster.proxy}", *flags)
        eventually(lambda: cluster.tunnelled("apart"), what="apart in nodes ls")
        running.wait_for(f"through 127.0.0.1:{tunnel}")
        assert "multiplexing is on" not in cluster.proxy_process.said()
