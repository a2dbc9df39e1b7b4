"""Sessions through the proxy: by the jump host, down a tunnel, with tsh; and logging in."""

import subprocess
import time
import urllib.parse
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.world import CLUSTER, World, free_port, wait_for_port

PASSWORD = "a-password-for-benchmarks"
BULK = 256 << 20


class Proxied:
    """A proxy in a process of its own, and a second node that only its tunnel reaches."""

    def __init__(self, world: World) -> None:
        self.world, self.port = world, free_port()
        root = world.root
        config = root / "proxy.yaml"
        config.write_text(
            f"""\
version: v3
teleport:
  nodename: proxy
  data_dir: {root / "proxy"}
  auth_server: 127.0.0.1:{world.auth_port}
auth_service: {{enabled: no}}
ssh_service: {{enabled: no}}
proxy_service: {{web_listen_addr: "127.0.0.1:{self.port}", public_addr: "127.0.0.1:{self.port}"}}
"""
        )
        config.chmod(0o600)
        token = world.tctl("tokens", "add", "--type=proxy,node", "--format=text").strip()
        flags = (f"--token={token}", f"--ca-pin={world.pin}")
        self.daemon = world.daemon("start", "-c", str(config), *flags)
        wait_for_port(self.port)
        where = (f"--proxy=127.0.0.1:{self.port}", f"--data-dir={root / 'far'}", "--nodename=far")
        world.daemon("start", "--roles=node", *where, *flags)
        self._wait_for("far")
        self._login()

    def ssh(self, jump: str, target: str, *words: str) -> Sequence[str]:
        """By "proxy" or "sshd" as the jump host; the same client, the same ciphers."""
        command, alias = list(self.world.ssh("node", *words)), f"HostKeyAlias={target}.{CLUSTER}"
        options = [f"HostKeyAlias=bench.{CLUSTER}" == word for word in command]
        command[options.index(True)] = alias
        through = list(self.world.ssh("sshd"))
        port = self.port if jump == "proxy" else self.world.sshd_port
        name = "proxy" if jump == "proxy" else "bench"
        through[through.index(f"HostKeyAlias=bench.{CLUSTER}")] = f"HostKeyAlias={name}.{CLUSTER}"
        through[through.index("-p") + 1] = str(port)
        place = f"{target}:22" if jump == "proxy" else f"127.0.0.1:{self.world.node_port}"
        through[-1:-1] = ["-W", place]
        return [*command[:1], "-o", f"ProxyCommand={' '.join(through)}", *command[1:]]

    def login_command(self) -> Sequence[str]:
        tsh = str(self.world.bin / "tsh")
        return [tsh, "login", f"--proxy=127.0.0.1:{self.port}", "--user=bob", self._pin]

    @property
    def _pin(self) -> str:
        return f"--ca-pin={self.world.pin}"

    def _wait_for(self, node: str) -> None:
        deadline = time.monotonic() + 60
        while node not in self.world.tctl("nodes", "ls") or not self._tunnelled(node):
            if time.monotonic() > deadline:
                raise SystemExit(f"{node} has no tunnel")
            time.sleep(0.2)

    def _tunnelled(self, node: str) -> bool:
        import json

        listed = json.loads(self.world.tctl("nodes", "ls", "--format=json"))
        return any(each["hostname"] == node and each["tunnels"] for each in listed)

    def _login(self) -> None:
        import json

        words = ("users", "add", "bob", f"--logins={self.world.login}", "--roles=access")
        said = json.loads(self.world.tctl(*words, "--format=json"))
        path = urllib.parse.urlsplit(said["invite"]["url"]).path
        fields = ["--data", f"password={PASSWORD}", "--data", f"again={PASSWORD}"]
        url = f"https://127.0.0.1:{self.port}{path}"
        subprocess.run(["curl", "-sSkf", "-o", "/dev/null", *fields, url], check=True)


def rows(world: World, rounds: int, figure: Callable[..., Any]) -> list[Any]:
    proxied = Proxied(world)
    return [
        _compare(
            ("ssh through the jump host", proxied.ssh("proxy", "bench", "true")),
            ("ssh -J through sshd to the same node", proxied.ssh("sshd", "bench", "true")),
            rounds,
            figure,
            budget="1.0",
        ),
        _compare(
            ("ssh to a node down its tunnel", proxied.ssh("proxy", "far", "true")),
            ("the same to a node that listens", proxied.ssh("proxy", "bench", "true")),
            rounds,
            figure,
            budget="+3 ms",
        ),
        _compare(
            ("tsh login", proxied.login_command()),
            ("python3 -c pass", [world.python, "-c", "pass"]),
            max(3, rounds // 3),
            figure,
            stdin=f"{PASSWORD}\n",
        ),
        _bulk(proxied, figure),
    ]


def _compare(
    ours: tuple[str, Sequence[str]],
    theirs: tuple[str, Sequence[str]],
    rounds: int,
    figure: Callable[..., Any],
    *,
    stdin: str = "",
    budget: str = "",
) -> Any:
    took: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds + 1):
        for kept, (_, command) in zip(took, (ours, theirs), strict=True):
            began = time.perf_counter()
            done = subprocess.run(command, input=stdin, capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(f"{command} failed: {done.stderr}")
            if number:  # first use of caches is nobody's merit
                kept.append((time.perf_counter() - began) * 1000)
    return figure(ours[0], theirs[0], took[0], took[1], unit="ms", budget=budget)


def _bulk(proxied: Proxied, figure: Callable[..., Any]) -> Any:
    """Seconds for a quarter of a GiB from the node: through our jump host, and through sshd."""
    command = f"head -c {BULK} /dev/zero"
    took: dict[str, list[float]] = {"proxy": [], "sshd": []}
    for number in range(4):
        for jump, kept in took.items():
            began = time.perf_counter()
            words = proxied.ssh(jump, "bench", command)
            subprocess.run(words, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            if number:
                kept.append(time.perf_counter() - began)
    return figure(
        "bulk through the jump host",
        "ssh -J through sshd",
        took["proxy"],
        took["sshd"],
        unit="s",
        budget="1.5",
    )
