"""Configurations of daemons for tests: files on loopback, everything below one directory."""

from dataclasses import replace
from pathlib import Path
from textwrap import dedent
from typing import Any

from teleport_lite.config.load import parse
from teleport_lite.config.model import Config
from teleport_lite.plugin.builtin import builtin_book
from tests.support import free_port

TEXT = """\
version: v3
teleport:
  nodename: auth-1
  data_dir: {home}
auth_service:
  enabled: yes
  cluster_name: test.example
  listen_addr: 127.0.0.1:{port}
proxy_service:
  enabled: no
ssh_service:
  enabled: no
"""


def a_config(home: Path, text: str = "", **changes: Any) -> Config:
    """The auth role alone, until changed. `text` is a config file instead."""
    text = dedent(text) or TEXT.format(home=home / "data", port=free_port())
    config = parse(text, "test.yaml", builtin_book())
    storage = replace(config.storage, path=home / "backend", keyring=home / "keyring")
    fields = {"storage": storage, "data_dir": home / "data"} | changes
    return replace(config, **fields)
