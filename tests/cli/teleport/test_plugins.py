"""teleport-lite plugins ls, as people run it."""

import json
from pathlib import Path

import pytest
import yaml

from tests.plugin.makers import installed


@pytest.fixture
def config(tmp_path: Path):
    def write(text: str) -> str:
        path = tmp_path / "teleport.yaml"
        path.write_text(text)
        path.chmod(0o600)
        return f"--config={path}"

    return write


def test_our_own_plugins_are_listed_with_their_roles_and_state(run, config):
    shown = run("teleport-lite", "plugins", "ls", config(""))
    assert (shown.code, shown.err) == (0, "")
    lines = [line.split(maxsplit=4) for line in shown.out.splitlines()]
    assert lines[0] == ["Name", "Source", "Roles", "State", "Reason"]
    assert [line[0] for line in lines[2:]] == [
        "auth",
        "proxy",
        "node",
        "app",
        "db",
        "kube",
        "windowsdesktop",
        "discovery",
        "bot",
    ]


def test_what_is_not_there_yet_says_so(run, config):
    shown = run("teleport-lite", "plugins", "ls", config(""), "--format=json")
    rows = {row["name"]: row for row in json.loads(shown.out)}
    assert rows["db"] == {
        "name": "db",
        "source": "built in",
        "roles": ["Db"],
        "state": "no service yet",
        "reason": "joins and announces only: Db",
    }
    assert (rows["auth"]["state"], rows["auth"]["reason"]) == (
        "ready",
        "",
    )


def test_yaml_says_the_same_as_json(run, config):
    command = ("teleport-lite", "plugins", "ls", config(""))
    as_yaml, as_json = (run(*command, f"--format={form}").out for form in ("yaml", "json"))
    assert yaml.safe_load(as_yaml) == json.loads(as_json)


def test_a_plugin_that_can_not_come_is_listed_with_the_reason(run, config, tmp_path):
    gone = tmp_path / "gone"
    shown = run(
        "teleport-lite",
        "plugins",
        "ls",
        config(f"plugins:\n  directories: [{gone}]\n  distributions: [lab-gone]\n"),
        "--format=json",
    )
    failed = [row for row in json.loads(shown.out) if row["state"] == "failed"]
    assert [(row["name"], row["source"]) for row in failed] == [
        ("gone", str(gone)),
        ("lab-gone", "distribution lab-gone"),
    ]
    assert failed[0]["reason"]
    assert failed[1]["reason"] == "distribution 'lab-gone' is not installed here"


def test_an_installed_plugin_that_is_not_invited_is_reported(run, config, tmp_path, monkeypatch):
    site = tmp_path / "site"
    (installed(site) / "__init__.py").write_text("raise RuntimeError('imported')\n")
    monkeypatch.syspath_prepend(str(site))
    shown = run("teleport-lite", "plugins", "ls", config(""), "--format=json")
    assert json.loads(shown.out)[-1] == {
        "name": "lab",
        "source": "distribution lab-plugins 1.0",
        "roles": [],
        "state": "not invited",
        "reason": "lab-plugins is not in plugins.distributions",
    }


def test_a_config_file_that_is_not_there_is_one_error(run, tmp_path):
    shown = run("teleport-lite", "plugins", "ls", f"--config={tmp_path}/gone.yaml")
    assert (shown.code, shown.out) == (3, "")
    assert shown.err.startswith("ERROR: ")
