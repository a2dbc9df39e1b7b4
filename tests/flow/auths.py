"""Two auth servers of one cluster, on a PostgreSQL database, as real processes."""

import json
from pathlib import Path
from typing import Any

from tests.flow.cluster import CONFIG, Cluster, Running
from tests.support import free_port

STORAGE = """\
  data_dir: {data}
  storage:
    type: postgresql
    conn_string: %s
    keyring: {data}.keyring
"""
AUTH_TOKEN = "static-token-of-auth-servers-0123"


class Auths(Cluster):
    """`auth` is the first one. The second one joins as the guide of Teleport has it: by a static
    token in a file."""

    def __init__(self, root: Path, database: str) -> None:
        self.token_file = root / "tokenfile"
        self.token_file.write_text(f"{AUTH_TOKEN}\n")
        self.token_file.chmod(0o600)
        self.template = CONFIG.replace("  data_dir: {data}\n", STORAGE % database)
        extra = f'  tokens: ["auth:{self.token_file}"]'
        super().__init__(root, template=self.template, extra=extra)
        self.second_port = free_port()
        self.second_config = self.configure("auth-2", self.second_port)
        self.second = self.start_second()

    def configure(self, name: str, port: int) -> Path:
        path = self.root / f"{name}.yaml"
        text = self.template.format(data=self.root / name, name=self.name, port=port, extra="")
        path.write_text(text.replace("nodename: auth-1", f"nodename: {name}"))
        path.chmod(0o600)
        return path

    @property
    def second_address(self) -> str:
        return f"127.0.0.1:{self.second_port}"

    def start_second(self) -> Running:
        flags = (f"--token={self.token_file}", f"--auth-server={self.address}")
        words = ("start", "-c", str(self.second_config), "--roles=auth", *flags)
        self.second = self.start_words(*words, f"--ca-pin={self.pin}", name="auth-2")
        self.second.wait_for("is running")
        return self.second

    def ask_second(self, *words: str) -> Any:
        done = self.run("tctl", "-c", str(self.second_config), *words, "--format=json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def states(self) -> dict[str, str]:
        """As the second one sees them."""
        servers = self.ask_second("status")["auth_servers"]
        return {each["hostname"]: each["state"] for each in servers}
