"""The quick look at a config file agrees with the whole reader, wherever that accepts it."""

from pathlib import Path

import pytest

from teleport_lite.client import local
from teleport_lite.client.local import look
from teleport_lite.config import load, model
from teleport_lite.errors import Malformed
from teleport_lite.model.system_role import AUTH
from teleport_lite.plugin.builtin import builtin_book

FILES = [
    "",
    "# nothing\n",
    "version: v3\n",
    "version: v3\nteleport:\n  data_dir: /srv/teleport\n",
    "version: v3\nteleport:\n  data_dir: '/srv/with space'\n",
    "version: v3\nteleport: {data_dir: }\n",
    "version: v3\nauth_service:\n",
    "version: v3\nauth_service:\n  enabled: yes\n",
    "version: v3\nauth_service:\n  enabled: true\n",
    "version: v3\nauth_service:\n  enabled: no\nteleport:\n  auth_server: 10.0.0.5\n",
    "version: v3\nauth_service:\n  enabled: 'No'\nteleport:\n  auth_server: 10.0.0.5\n",
    "version: v3\nauth_service:\n  enabled: OFF\nteleport:\n  auth_server: 10.0.0.5\n",
    "version: v3\nauth_service: {enabled: false}\nteleport: {auth_server: 10.0.0.5}\n",
    "teleport:\n  auth_servers: ['10.0.0.5']\nauth_service:\n  enabled: no\n",
]


@pytest.mark.parametrize("text", FILES)
def test_both_say_the_same_about_auth_and_its_directory(text: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    whole = load.load(path, builtin_book())
    quick = look(str(path), "", Path("/nowhere"), model.DATA_DIR)
    assert quick.data_dir == (whole.data_dir if AUTH in whole.roles else None)
    assert quick.certain


def test_both_look_in_the_same_places(monkeypatch: pytest.MonkeyPatch) -> None:
    assert local.DATA_DIR == model.DATA_DIR
    monkeypatch.delenv(load.FILE_VARIABLE, raising=False)
    assert local.default_config() == load.default_file() == Path("/etc/teleport-lite.yaml")
    monkeypatch.setenv(load.FILE_VARIABLE, "/tmp/other.yaml")
    assert local.default_config() == load.default_file() == Path("/tmp/other.yaml")


def test_without_a_file_the_usual_place_is_a_guess(tmp_path: Path) -> None:
    found = look("", "", tmp_path / "none.yaml", tmp_path)
    assert (found.data_dir, found.certain) == (tmp_path, False)


def test_a_directory_that_was_typed_needs_no_file(tmp_path: Path) -> None:
    found = look("/nowhere/x.yaml", str(tmp_path), Path("/nowhere"), Path("/nowhere"))
    assert (found.data_dir, found.certain) == (tmp_path, True)


@pytest.mark.parametrize("text", ["a: [", "- a\n", "a: 1\na: 2\n", "\x00"])
def test_what_is_not_yaml_names_the_file(text: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(Malformed, match=str(path)):
        look("", "", path, tmp_path)
