"""teleport-lite install systemd, as people run it."""

from pathlib import Path

import pytest

from teleport_lite.cli.teleport import install_systemd
from teleport_lite.release import units

UNIT = "teleport-lite-node.service"


def test_the_units_are_printed_with_their_places_and_what_comes_next(run):
    shown = run("teleport-lite", "install", "systemd", "--roles=node")
    assert shown.code == 0
    places = [line for line in shown.out.splitlines() if line.startswith("# /")]
    assert places == [
        f"# /etc/systemd/system/{UNIT}",
        "# /etc/systemd/system/teleport-lite-sessions.socket",
        "# /etc/systemd/system/teleport-lite-sessions@.service",
        "# /usr/local/lib/sysusers.d/teleport-lite.conf",
        "# /usr/local/lib/tmpfiles.d/teleport-lite.conf",
    ]
    assert shown.err.startswith("Next:\n  teleport-lite install systemd -o file && ")
    assert shown.err.endswith(
        "systemctl daemon-reload && systemctl enable --now teleport-lite-node\n"
    )


def test_without_roles_it_is_the_unit_for_what_the_settings_say(run):
    shown = run("teleport-lite", "install", "systemd")
    assert shown.out.startswith("# /etc/systemd/system/teleport-lite.service\n")
    assert "start --config=/etc/teleport-lite.yaml\n" in shown.out


def test_they_are_written_where_one_says(run, tmp_path: Path):
    words = ("teleport-lite", "install", "systemd", "-r", "node", f"--output={tmp_path}")
    dry = run(*words, "--dry-run")
    assert f"would write {tmp_path / UNIT}\n" in dry.out
    assert list(tmp_path.iterdir()) == []
    shown = run(*words, "--fd-limit=8192", "--env-file=/etc/default/teleport")
    assert (shown.code, shown.err) == (0, "")
    assert f"wrote {tmp_path / UNIT}\n" in shown.out
    text = (tmp_path / UNIT).read_text()
    assert "EnvironmentFile=-/etc/default/teleport\n" in text
    assert "LimitNOFILE=1024:8192\n" in text
    assert (tmp_path / "sysusers.d-teleport-lite.conf").exists()
    again = run(*words, "--fd-limit=8192", "--env-file=/etc/default/teleport")
    assert (again.code, again.out) == (0, ""), "nothing has changed"


def test_the_usual_places_are_what_file_means(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("UNITS", "_SYSUSERS", "_TMPFILES"):
        place = getattr(units, name)
        monkeypatch.setattr(units, name, tmp_path / place.relative_to("/"))
    shown = run("teleport-lite", "install", "systemd", "--roles=auth", "--output=file")
    assert shown.code == 0
    assert (tmp_path / "etc/systemd/system/teleport-lite-auth.service").exists()
    assert (tmp_path / "usr/local/lib/tmpfiles.d/teleport-lite.conf").exists()
    assert shown.err.startswith("Next:\n  systemd-sysusers && ")


def test_a_unit_that_somebody_else_wrote_stays_and_so_do_all(run, tmp_path: Path):
    theirs = tmp_path / "teleport-lite-sessions.socket"
    theirs.write_text("[Socket]\n")
    shown = run("teleport-lite", "install", "systemd", "-r", "node", "-o", str(tmp_path))
    assert (shown.code, shown.out) == (1, "")
    assert f"{theirs} is there and not ours" in shown.err
    assert list(tmp_path.iterdir()) == [theirs]
    assert theirs.read_text() == "[Socket]\n"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--roles=bot"], "no unit for role 'bot'"),
        (["--roles=node,,"], "no unit for role ''"),
        (["--output=here"], "'here' is not stdout, file or a directory"),
        (["--output=/no/such/place"], "/no/such/place is no directory"),
        (["--teleport-path=/opt/%n"], "can not be named in a unit"),
        (["--teleport-path=tl"], "is not an absolute path"),
        (["--fd-limit=12"], "a limit of 12 files"),
    ],
)
def test_what_can_not_be_is_refused(run, words: list[str], why: str):
    shown = run("teleport-lite", "install", "systemd", *words)
    assert (shown.code, shown.out) == (1, "")
    assert why in shown.err


def test_a_pid_file_is_taken_and_left_out(run):
    shown = run("teleport-lite", "install", "systemd", "--pid-file=/run/teleport.pid")
    assert shown.code == 0
    assert "/run/teleport.pid" not in shown.out
    assert shown.err.startswith("WARN: --pid-file: not in the units")


def test_files_of_one_name_do_not_take_each_others_place():
    paths = list(units.units_of(None, units.Wish()))
    assert len({install_systemd._name(path) for path in paths}) == len(paths)
