"""install.sh and where it runs: which Python, which system, which environment and terminal."""

import contextlib
import os
import pty
import shlex
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.packaging.published import Published, published, temporary
from tests.support import eventually

OLD = "#!/bin/sh\necho it is 3.9 >&2\nexit 1\n"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Published]:
    with published(tmp_path_factory.mktemp("published")) as site:
        site.release("1.2.3")
        yield site


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def with_files(
    site: Published, home: Path, files: dict[str, str], *words: str
) -> subprocess.CompletedProcess[str]:
    """Piped where these files have another content, in a mount namespace."""
    binds = []
    for number, (path, content) in enumerate(files.items()):
        copy = home.parent / f"file-{number}"
        copy.write_text(content)
        copy.chmod(0o755)
        binds.append(f"mount --bind {shlex.quote(str(copy))} {os.path.realpath(path)}")
    inner = " && ".join([*binds, 'exec bash -s -- "$@"'])
    return subprocess.run(
        [
            "unshare",
            *(["--mount"] if os.geteuid() == 0 else ["-rm"]),
            "sh",
            "-c",
            inner,
            "sh",
            *words,
        ],
        input=site.script(),
        env=site.environment(home) | {"TELEPORT_LITE_PYTHON": "", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
    )


PYTHONS = [f"/usr/bin/python3{minor}" for minor in ("", ".11", ".12", ".13", ".14")]
SYSTEMS = {
    'ID=debian\nVERSION_ID="11"\n': "a newer release: Debian 12 and Ubuntu 24.04 have it",
    'ID=debian\nVERSION_ID="13"\n': "apt-get install python3,",
    'NAME="Ubuntu"\nID=ubuntu\nVERSION_ID="20.04"\n': "a newer release: ",
    'ID=ubuntu\nVERSION_ID="22.04"': "apt-get install python3.11,",
    "ID=ubuntu\nVERSION_ID='24.04'\n": "apt-get install python3,",
    'ID="rhel"\nVERSION_ID="9.4"\n': "dnf install python3.12,",
    'ID="almalinux"\nVERSION_ID="8.10"\n': "dnf install python3.12,",
    'ID="rocky"\nVERSION_ID="10.0"\n': "dnf install python3,",
    "ID=fedora\nVERSION_ID=41\n": "dnf install python3,",
    'ID="amzn"\nVERSION_ID="2023"\n': "dnf install python3.11,",
    'ID="opensuse-leap"\nVERSION_ID="15.6"\n': "zypper install python311,",
    "ID=arch\n": "pacman -S python,",
    "ID=$(id)`id`\n;id\n\0\x1b[2J\n": "the packages of your system,",
    "": "the packages of your system,",
}


@pytest.mark.parametrize("system", SYSTEMS)
def test_where_python_is_too_old_it_says_how_to_get_a_newer_one(site, home, system):
    files = {path: OLD for path in PYTHONS if os.path.exists(path)}
    said = with_files(site, home, files | {"/etc/os-release": system})
    assert said.returncode == 1
    cause, advice = said.stderr.splitlines()
    assert cause.startswith("ERROR: no Python from 3.11 to 3.14 with its whole standard library ")
    assert "/usr/bin/python3: it is 3.9." in cause
    assert advice.startswith(f"  try: {SYSTEMS[system]}")
    assert advice.endswith(", or --python PATH")


def test_musl_is_refused_before_anything_is_downloaded(site, home):
    site.asked.clear()
    said = with_files(site, home, {"/etc/os-release": "ID=alpine\nVERSION_ID=3.20.1\n"})
    assert said.returncode == 1
    assert said.stderr.startswith("ERROR: this system has musl, and teleport-lite needs glibc\n")
    assert site.asked == []


@pytest.mark.parametrize(
    ("system", "machine", "cause"),
    [
        ("Darwin", "arm64", "this is Darwin, and teleport-lite runs on Linux alone"),
        ("Linux", "riscv64", "this is riscv64; teleport-lite is for x86_64 and aarch64"),
        ("Linux", "\x1b]0;x\x07", "this is ?]0;x?; teleport-lite is for"),
    ],
)
def test_other_systems_and_machines_are_refused(site, home, system, machine, cause):
    commands(home, uname=f"[ $1 = -s ] && echo {system} || printf %s '{machine}'")
    said = site.piped(home, PATH=f"{home}/bin:/usr/bin")
    assert said.returncode == 1
    assert said.stderr.startswith(f"ERROR: {cause}")


def commands(home: Path, **scripts: str) -> Path:
    place = home / "bin"
    place.mkdir(parents=True, exist_ok=True)
    for name, script in scripts.items():
        (place / name).write_text(f"#!/bin/sh\n{script}\n")
        (place / name).chmod(0o755)
    return place


def pretending(*lines: str) -> str:
    """A Python where these lines have run first."""
    return f'shift 3; exec /usr/bin/python3 -I -S -c "{"; ".join(lines)}\n$1"'


@pytest.mark.parametrize(
    ("python", "cause"),
    [
        (pretending("import sys", "sys.version_info = (3, 10, 1)"), "it is 3.10"),
        (pretending("import sys", "sys.version_info = (3, 15, 0)"), "it is 3.15"),
        (
            pretending("import sys", "sys.modules['sqlite3'] = None"),
            "its standard library is not whole",
        ),
        (pretending("import os", "os.confstr = lambda _: None"), "its C library is not glibc"),
        (
            pretending("import os", "os.confstr = lambda _: 'glibc 2.17'"),
            "it has glibc 2.17, or 32",
        ),
        ("exit 3", ""),
    ],
)
def test_a_python_that_will_not_do_is_refused_by_name(site, home, python, cause):
    place = commands(home, python=python)
    said = site.piped(home, f"--python={place}/python")
    assert said.returncode == 1
    assert said.stderr.startswith(f"ERROR: {place}/python can not be used: {cause}")


def test_the_environment_does_not_lead_it_astray(site, home):
    site.log.unlink(missing_ok=True)
    ran = f"() {{ touch {shlex.quote(str(home))}/ran; }}"
    names = ["curl", "mktemp", "rm", "sha256sum", "printf", "readlink", "die", "say", "main"]
    functions = {f"BASH_FUNC_{name}%%": ran for name in names}
    odd = {"IFS": "e/s", "CDPATH": "/:/tmp", "GREP_OPTIONS": "-v", "POSIXLY_CORRECT": "1"}
    odd |= {"LC_ALL": "tr_TR.UTF-8", "LANG": "C.UTF-8", "PYTHONPATH": str(home), "work": str(home)}
    odd |= {
        "TELEPORT_LITE_ROOT": "/nowhere",
        "PYTHONSTARTUP": str(home / "x"),
        "prefix": "/nowhere",
    }
    home.mkdir()
    (home / "ssl.py").write_text("raise SystemExit('not this one')")
    (home / "packaging").mkdir()
    (home / "packaging" / "build.py").write_text(f"open('{home}/ran', 'w')")
    said = site.piped(home, **functions, **odd)
    assert said.returncode == 0, said.stderr
    assert not (home / "ran").exists()
    assert site.calls()[-1]["words"] == ["install", "self", f"--prefix={home}/prefix"]


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a directory to somebody else")
def test_nothing_is_checked_where_somebody_else_could_change_it_afterwards(site, home, tmp_path):
    """As `su` leaves TMPDIR, and some systems give everybody one of their own."""
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    os.chown(theirs, 12345, 12345)
    before = theirs.stat().st_mtime_ns
    assert site.piped(home, TMPDIR=str(theirs)).returncode == 0
    assert theirs.stat().st_mtime_ns == before


def test_an_unstamped_script_that_is_piped_takes_nothing_from_where_it_is(home):
    """Only a file in a checkout builds that; for who pipes it, ./packaging is anybody's."""
    (home / "packaging").mkdir(parents=True)
    (home / "packaging" / "build.py").write_text(f"open('{home}/ran', 'w')")
    (home / "packaging" / "demo.sh").write_text(f"touch '{home}/ran'")
    script = (Path(__file__).parents[2] / "install.sh").read_bytes()
    for name in ("bash", "-bash"):
        (home / name).touch()  # $0, which is no path here
        said = subprocess.run(
            ["bash", "-s", "--", f"--prefix={home}/p"], input=script, cwd=home, capture_output=True
        )
        assert said.returncode == 1
        assert b"this install.sh does not know where releases are" in said.stderr
    assert not (home / "ran").exists()


@pytest.mark.parametrize("words", [[], ["-s"]])
def test_another_shell_says_that_bash_is_needed(site, words):
    said = subprocess.run(["dash", *words], input=site.script(), capture_output=True, text=True)
    assert said.returncode == 2
    assert said.stderr == "ERROR: this is for bash: pipe it to bash, or run: bash install.sh\n"


def test_who_is_interrupted_leaves_nothing_behind(site, home):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        base = f"https://localhost:{silent.getsockname()[1]}"
        silent.settimeout(30)
        process = subprocess.Popen(
            ["bash", "-s", "--", f"--prefix={home}/prefix"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=site.environment(home),
            process_group=0,
        )
        with process, contextlib.ExitStack() as after:
            assert process.stdin
            process.stdin.write(site.script(base=base).encode())
            process.stdin.close()
            after.enter_context(silent.accept()[0])  # it waits for a greeting now
            assert list(temporary(home).iterdir())
            os.killpg(process.pid, signal.SIGINT)
            assert process.wait(30) == 130
    assert list(temporary(home).iterdir()) == []
    assert not (home / "prefix").exists()


def test_colours_are_for_terminals_and_nobody_who_asked_for_none(site, home):
    assert b"\x1b" in on_a_terminal(site, home)
    assert b"\x1b" not in on_a_terminal(site, home, NO_COLOR="1")


def on_a_terminal(site: Published, home: Path, **more: str) -> bytes:
    leader, follower = pty.openpty()
    with os.fdopen(leader, "rb", buffering=0) as terminal:
        subprocess.run(
            ["bash", "-s", "--", "--uninstall", f"--prefix={home}/prefix"],
            input=site.script().encode(),
            stdout=follower,
            env=site.environment(home) | more,
            check=True,
        )
        os.close(follower)
        return eventually(lambda: terminal.read(1000))


# For whom: `id` and `sudo` of the machine are stand-ins, as the tests may be root themselves


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """In front of PATH: somebody who is not root, and a sudo that notes what it is asked."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "id").write_text('#!/bin/sh\n[ "$1" = -u ] && echo 1000 || echo someone\n')
    (tools / "sudo").write_text(f'#!/bin/sh\nprintf "%s\\n" "$*" >>"{tmp_path}/sudo"\n')
    for tool in tools.iterdir():
        tool.chmod(0o755)
    return tools


def as_somebody(
    site: Published, home: Path, tools: Path, *words: str
) -> subprocess.CompletedProcess[str]:
    environment = site.environment(home)
    said = subprocess.run(
        ["bash", "-s", "--", *words],
        input=site.script(),
        env=environment | {"PATH": f"{tools}:{environment['PATH']}"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert list(temporary(home).iterdir()) == []
    return said


def test_who_may_use_sudo_installs_for_everybody_by_it(site, home, tools, tmp_path):
    said = as_somebody(site, home, tools)
    assert "==> for everybody, by sudo (for you alone: --user)\n" in said.stdout
    asked = (tmp_path / "sudo").read_text().splitlines()
    lib = "/usr/local/lib/teleport-lite"
    assert asked[:2] == ["-n true", f"mkdir -p {lib}"]
    assert all(line.startswith(f"env TELEPORT_LITE_ROOT={lib} ") for line in asked[2:])
    assert [line.split("1.2.3.pyz ")[1].split()[:2] for line in asked[2:]] == [
        ["self", "unpack"],
        ["install", "self"],
    ]
    assert not (home / ".local").exists()


def test_a_dry_run_needs_nobodys_rights(site, home, tools, tmp_path):
    said = as_somebody(site, home, tools, "--dry-run")
    assert "would install teleport-lite 1.2.3 in /usr/local " in said.stdout
    assert (tmp_path / "sudo").read_text() == "-n true\n"


@pytest.mark.parametrize("case", ["--user", "no sudo for them", "no sudo", "theirs already"])
def test_who_may_not_or_does_not_want_to_installs_for_themself(site, home, tools, case):
    words = ["--user"] if case == "--user" else []
    if case == "no sudo for them":
        (tools / "sudo").write_text("#!/bin/sh\necho a password is required >&2\nexit 1\n")
    if case == "no sudo":
        (tools / "sudo").write_text("#!/bin/sh\nexit 127\n")
    if case == "theirs already":
        (home / ".local/lib/teleport-lite").mkdir(parents=True)
        (home / ".local/lib/teleport-lite/current").symlink_to("1.0.0")
    said = as_somebody(site, home, tools, *words)
    assert said.returncode == 0, said.stderr
    assert "by sudo (" not in said.stdout
    assert site.calls()[-1]["words"][:3] == ["install", "self", f"--prefix={home}/.local"]


def test_two_places_are_one_too_many(site, home):
    said = site.piped(home, "--user")
    assert said.returncode == 2
    assert "ERROR: --user and --prefix name two places\n" in said.stderr
