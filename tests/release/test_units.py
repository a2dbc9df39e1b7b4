"""The units of a host: that systemd understands them, and how much they leave open."""

import itertools
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from teleport_lite.errors import Malformed
from teleport_lite.release import assets
from teleport_lite.release.unit_files import MARK
from teleport_lite.release.units import PREFIX, UNITS, Wish, names, units, units_of

ROOT = Path(__file__).parents[2]
needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"
)
# `systemd-analyze security`, in tenths: what docs promise, and no more.
EXPOSED = {"auth": 12, "proxy": 16, "auth-proxy": 16, "node": 20, "all": 25}
DAEMONS = tuple(f"teleport-lite{'' if what == 'all' else f'-{what}'}.service" for what in EXPOSED)


def analysed(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["systemd-analyze", "--no-pager", *words], capture_output=True, text=True, timeout=60
    )


def settings(name: str) -> list[tuple[str, str]]:
    lines = assets.text(f"systemd/{name}").splitlines()
    return [tuple(line.split("=", 1)) for line in lines if re.match(r"[A-Z]\w+=", line)]  # type: ignore[misc]


@needs_systemd
def test_systemd_understands_every_line(tmp_path: Path) -> None:
    wish = Wish(program=Path("/usr/bin/env"))  # one that is there
    for where, text in units_of(None, wish).items():
        if where.parent == UNITS:
            (tmp_path / where.name).write_text(text)
    done = analysed("verify", "--man=no", *map(str, sorted(tmp_path.iterdir())))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@needs_systemd
@pytest.mark.parametrize("what", EXPOSED)
def test_a_daemon_leaves_no_more_open_than_is_said(what: str) -> None:
    unit = ROOT / "systemd" / f"teleport-lite{'' if what == 'all' else f'-{what}'}.service"
    done = analysed("security", "--offline=yes", f"--threshold={EXPOSED[what]}", str(unit))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", [*DAEMONS, "teleport-lite-upgrade.service"])
def test_every_restriction_says_why(name: str) -> None:
    """A line of a group that belongs together has one reason for all of it."""
    why = re.compile(r"^(Protect|Private|Restrict|System|Capability|NoNew|Lock|Memory|KillMode)")
    lines = assets.text(f"systemd/{name}").splitlines()
    for at, line in enumerate(lines):
        if why.match(line):
            above = at
            while re.match(r"[A-Z]\w+=", lines[above]):
                above -= 1
            assert lines[above].startswith("# "), f"{name}:{at + 1}: {line}"


def test_who_upgrades_reads_what_daemons_read() -> None:
    """A plugin or a key below /root that it can not see would be a configuration that it refuses,
    and then the version for a bad one."""
    mine = dict(settings("teleport-lite-upgrade.service"))["ProtectHome"]
    assert mine == dict(settings("teleport-lite.service"))["ProtectHome"] == "read-only"


@pytest.mark.parametrize("name", DAEMONS)
def test_a_daemon_is_watched_and_its_sessions_stay(name: str) -> None:
    said = dict(settings(name))
    assert (said["Type"], said["KillMode"], said["Restart"]) == ("notify", "process", "on-failure")
    assert int(said["WatchdogSec"]) > 0
    assert int(said["FileDescriptorStoreMax"]) >= 16
    assert said["LimitCORE"] == "0"


def test_no_two_daemons_use_one_data_directory() -> None:
    """An order in either direction makes one stop before the other starts (systemd.unit(5)); one
    in both is a circle."""
    for one in DAEMONS:
        (others,) = [value for key, value in settings(one) if key == "Conflicts"]
        assert {one, *others.split()} == set(DAEMONS)
    for one, other in itertools.combinations(DAEMONS, 2):
        assert (other in after(one)) != (one in after(other)), (one, other)


def test_auth_and_the_proxy_in_one_have_what_each_of_them_has_and_no_more() -> None:
    """But what both need of the system: the CA is in there."""
    auth, proxy, both = (
        [
            each
            for each in settings(f"teleport-lite-{what}.service")
            if each[0] not in ("Description", "Conflicts", "After", "ExecStart")
        ]
        for what in ("auth", "proxy", "auth-proxy")
    )
    assert set(both) <= {*auth, *proxy}
    # Ports below 1024, which a user namespace takes away, and workers of the jump host.
    assert set(auth) - set(both) == {
        ("PrivateUsers", "yes"),
        ("CapabilityBoundingSet", ""),
        ("AmbientCapabilities", ""),
    }
    assert set(proxy) <= set(both)


def after(name: str) -> set[str]:
    return {each for key, value in settings(name) if key == "After" for each in value.split()}


@pytest.mark.parametrize("name", ["teleport-lite.service", "teleport-lite-node.service"])
def test_people_are_never_in_the_daemons_sandbox(name: str) -> None:
    said = settings(name)
    assert ("Requires", "teleport-lite-sessions.socket") in said
    assert ("After", "teleport-lite-sessions.socket") in said
    ((_, where),) = [each for each in said if each[1].startswith("TELEPORT_LITE_SESSIONS=")]
    assert (
        where.partition("=")[2]
        == dict(settings("teleport-lite-sessions.socket"))["ListenSequentialPacket"]
    )
    assert not {"ProtectSystem", "NoNewPrivileges", "CapabilityBoundingSet"} & {
        key for key, _ in settings("teleport-lite-sessions@.service")
    }


@pytest.mark.parametrize("role", ["auth", "proxy", "auth-proxy"])
def test_what_is_copied_for_a_daemon_is_in_a_directory_of_roots(role: str) -> None:
    """Whoever took over the daemon could plant a link there, and root would follow it."""
    said = settings(f"teleport-lite-{role}.service")
    copies = [
        value for key, value in said if key in ("ExecStartPre", "ExecReload") and "yaml" in value
    ]
    assert len(copies) == 2
    assert all(" -m 0400 " in each and "/usr/bin/install" in each for each in copies)
    (target,) = {each.split()[-1] for each in copies}
    assert f"--config={target}" in dict(said)["ExecStart"]
    assert f"d {Path(target).parent} 0755 root root" in assets.text(
        "systemd/teleport-lite.tmpfiles"
    )
    assert "RuntimeDirectory" not in dict(said), "which would be the daemon's"


# Which of them a host gets


def test_all_of_them_are_there_to_choose_from() -> None:
    found = units(roles=None, prefix=PREFIX)
    shipped = {path.name for path in (ROOT / "systemd").iterdir()}
    assert {path.name for path in found if path.parent == UNITS} == {
        name for name in shipped if not name.endswith((".sysusers", ".tmpfiles"))
    }
    assert {path.parent.name for path in found} == {"system", "sysusers.d", "tmpfiles.d"}
    assert all(text.split("\n", 1)[0] == MARK for text in found.values())


@pytest.mark.parametrize(
    ("roles", "first", "sessions"),
    [
        ({"auth"}, "teleport-lite-auth.service", False),
        ({"proxy"}, "teleport-lite-proxy.service", False),
        ({"node"}, "teleport-lite-node.service", True),
        (set(), "teleport-lite.service", True),
        ({"auth", "proxy"}, "teleport-lite-auth-proxy.service", False),
        ({"node", "proxy"}, "teleport-lite.service", True),
        ({"auth", "node", "proxy"}, "teleport-lite.service", True),
    ],
)
def test_a_host_gets_what_its_roles_need(roles: set[str], first: str, sessions: bool) -> None:
    found = names(frozenset(roles))
    assert found[0] == first
    assert ("teleport-lite-sessions.socket" in found) is sessions


def test_several_roles_are_one_process() -> None:
    found = units_of(frozenset({"proxy", "node"}), Wish())
    assert "teleport-lite.yaml --roles=node,proxy\n" in found[UNITS / "teleport-lite.service"]
    assert "--roles" not in units_of(frozenset(), Wish())[UNITS / "teleport-lite.service"]


def test_the_program_may_be_elsewhere_and_have_more() -> None:
    wish = Wish(program=Path("/opt/tl/bin/tl"), env_file=Path("/etc/default/tl"), fd_limit=8192)
    for path, text in units_of(None, wish).items():
        assert "/usr/local/bin/teleport-lite" not in text
        daemon = path.name in DAEMONS
        assert ("EnvironmentFile=-/etc/default/tl\n" in text) is daemon
        assert ("LimitNOFILE=1024:8192\n" in text) is daemon
    assert units(roles=None, prefix=PREFIX) == units_of(None, Wish())


@pytest.mark.parametrize(
    "path", ["/opt/a b", "/opt/%h", "/opt/$X", '/opt/"', "/opt/x\nUser=root", "relative", "/"]
)
def test_a_path_that_would_have_to_be_quoted_is_refused(path: str) -> None:
    with pytest.raises(Malformed, match="can not be named in a unit"):
        Wish(program=Path(path))
    with pytest.raises(Malformed, match="can not be named in a unit"):
        Wish(env_file=Path(path))


@pytest.mark.parametrize("limit", [0, 1023, (1 << 20) + 1])
def test_a_limit_nobody_could_work_with_is_refused(limit: int) -> None:
    with pytest.raises(Malformed, match=f"a limit of {limit} files"):
        Wish(fd_limit=limit)


def test_a_role_without_a_unit_is_refused() -> None:
    with pytest.raises(Malformed, match="no unit for role 'bot'"):
        names(frozenset({"bot", "node"}))
