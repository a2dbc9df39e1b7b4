"""A cluster whose auth nobody reaches but its proxy: processes of their own, on loopback."""

import subprocess
import urllib.parse
from pathlib import Path

from tests.flow.cluster import Cluster, Running
from tests.support import free_port

PASSWORD = "seven-violet-lanterns"

PROXY = """\
version: v3
teleport:
  nodename: {name}
  data_dir: {data}
  auth_server: {auth}
auth_service: {{enabled: no}}
ssh_service: {{enabled: no}}
proxy_service:
  web_listen_addr: 127.0.0.1:{port}
  public_addr: 127.0.0.1:{public}
{extra}"""


class Proxied(Cluster):
    """`proxy` is what people and nodes are told, and may be something in front of it."""

    def __init__(self, root: Path, *, in_front: int = 0, proxy_extra: str = "") -> None:
        super().__init__(root, name="proxied.example.com")
        self.proxy_port = free_port()
        self.public = in_front or self.proxy_port
        config = root / "proxy.yaml"
        config.write_text(
            PROXY.format(
                name="proxy-1",
                data=root / "proxy-1",
                auth=self.address,
                port=self.proxy_port,
                public=self.public,
                extra=proxy_extra,
            )
        )
        config.chmod(0o600)
        flags = (f"--token={self.token('proxy')}", f"--ca-pin={self.pin}")
        self.proxy_process = self.start_proxy(*flags)

    @property
    def proxy(self) -> str:
        return f"127.0.0.1:{self.public}"

    def start_proxy(self, *flags: str) -> Running:
        words = ("start", "-c", str(self.root / "proxy.yaml"), "-d", *flags)
        self.proxy_process = self.start_words(*words, name="proxy-1")
        self.proxy_process.wait_for("connected to auth")
        return self.proxy_process

    def node(self, name: str, *flags: str) -> Running:
        return self.start("--roles=node", *flags, name=name)

    def tunnelled(self, name: str) -> bool:
        """Is it listed, with a tunnel, and with no address of its own?"""
        listed = [each for each in self.json("nodes", "ls") if each["hostname"] == name]
        return any(each["tunnels"] and not each["address"] for each in listed)

    def invite(self, user: str, *flags: str) -> str:
        return str(self.json("users", "add", user, *flags)["invite"]["url"])

    def set_password(self, link: str, password: str = PASSWORD) -> None:
        set_password(link, self.proxy_port, password)

    def login(self, user: str) -> "subprocess.CompletedProcess[str]":
        where = (f"--proxy={self.proxy}", f"--user={user}", f"--ca-pin={self.pin}")
        return self.run("tsh", "login", *where, stdin=f"{PASSWORD}\n")


def set_password(link: str, port: int, password: str = PASSWORD) -> None:
    """As a browser does, at the proxy on that port."""
    path = urllib.parse.urlsplit(link).path
    fields = ("--data-urlencode", f"password={password}", "--data-urlencode")
    url = f"https://127.0.0.1:{port}{path}"
    words = ("curl", "-sSkf", "-o", "/dev/null", *fields, f"again={password}", url)
    subprocess.run(words, check=True, timeout=60)
