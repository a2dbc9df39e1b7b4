"""How the single file starts: from where, as whom, and what it refuses to run."""

import ast
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from teleport_lite import __version__
from tests.packaging.conftest import NOBODY, ROOT
from tests.support import eventually

VERSION = f"teleport-lite v{__version__} "


def start(file: Path, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run it with nothing in the environment but what is given, so without HOME and with a PATH."""
    env = {"PATH": "/usr/bin:/bin", "TELEPORT_LITE_PYTHON": sys.executable}
    env |= options.pop("env", {})
    return subprocess.run(
        [str(file), *words], env=env, capture_output=True, text=True, timeout=100, **options
    )


def into(root: Path) -> dict[str, str]:
    return {"TELEPORT_LITE_ROOT": str(root)}


def trees(root: Path) -> list[str]:
    return [path.name for path in root.iterdir() if not path.name.startswith(".")]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


# Names


@pytest.mark.parametrize("name", ["tctl", "tsh", "tbot", "teleport-lite"])
def test_the_name_it_is_called_by_survives_symlinks(built, root, tmp_path, name):
    (tmp_path / "first").symlink_to(built)
    (tmp_path / name).symlink_to("first")
    said = start(tmp_path / name, "--help", env=into(root))
    assert said.returncode == 0
    assert f"Usage: {name} " in said.stdout


@pytest.mark.parametrize("words", [("--version",), ("version",)])
def test_asking_for_the_version_imports_nothing_else(built, root, words):
    command = [sys.executable, "-I", "-S", "-X", "importtime", str(built), *words]
    start(built, "--version", env=into(root))
    said = subprocess.run(command, env=into(root), capture_output=True, text=True, timeout=60)
    assert said.stdout.startswith(VERSION)
    imported = {line.split("|")[-1].strip() for line in said.stderr.splitlines()}
    heavy = {"typer", "rich", "yaml", "asyncio", "paramiko", "cryptography", "importlib.metadata"}
    assert not imported & {*heavy, "subprocess", "zipfile", "hashlib", "unpack"}


# Each command of stdin in a process of its own, forked from one that runs from the tree: the start
# itself, which the tests around this one look at, is most of what a hundred of them would cost.
EACH = """
import json, os, sys, traceback
sys.path.insert(0, sys.argv[1])
from teleport_lite.__main__ import main
import teleport_lite.cli.main
for line in sys.stdin:
    said = os.memfd_create("said")
    pid, code = os.fork(), 70
    if pid == 0:
        os.dup2(said, 1), os.dup2(said, 2)
        try:
            code = main(["teleport-lite", *json.loads(line)])
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush(), sys.stderr.flush(), os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    print(json.dumps([code, os.pread(said, 1 << 20, 0).decode()]), flush=True)
    os.close(said)
"""


def test_every_command_can_tell_about_itself(built, root):
    """Among other things it shows that what the file leaves out is not missed."""
    todo: list[list[str]] = [[], ["tctl"], ["tbot"], ["tsh"]]
    for words in todo:
        assert start(built, *words, "--help", env=into(root)).returncode == 0
    (tree,) = root.glob("*-cp*")
    command = [sys.executable, "-I", "-S", "-c", EACH, str(tree)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={}
    ) as walk:
        assert walk.stdin
        assert walk.stdout
        seen = 0
        while todo:
            words = todo.pop()
            walk.stdin.write(json.dumps([*words, "--help"]) + "\n")
            walk.stdin.flush()
            code, said = json.loads(walk.stdout.readline())
            assert code == 0 or "is not in this version" in said, f"{words}: {said}"
            _, _, commands = said.partition("\nCommands:\n")
            todo += [[*words, name] for name in re.findall(r"^  (\w\S*) ", commands, re.MULTILINE)]
            seen += 1
    assert seen > 40


# Surroundings


def test_what_lies_around_is_not_imported(built, root, tmp_path):
    planted = tmp_path / "planted"
    planted.mkdir()
    for name in ("teleport_lite.py", "typer.py", "sitecustomize.py", "ssl.py"):
        (planted / name).write_text("raise SystemExit('planted code ran')\n")
    env = into(root) | {"PYTHONPATH": str(planted), "HOME": str(planted)}
    for command in ([str(built)], [sys.executable, str(built)]):
        if len(command) == 2:  # python3 without flags runs this before it looks at our file
            (planted / "sitecustomize.py").unlink()
        said = subprocess.run(
            [*command, "tctl", "tokens", "--help"],
            env=env | {"PATH": "/usr/bin:/bin", "TELEPORT_LITE_PYTHON": sys.executable},
            cwd=planted,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert said.returncode == 0, said.stderr
        assert "planted" not in said.stdout + said.stderr


def test_where_it_can_unpack_nowhere_it_says_why(stranger, outside):
    """Not even to a temporary directory: all of those are mounted noexec."""
    closed = outside / "closed"
    closed.mkdir(mode=0o555)
    hide = "import os; from types import SimpleNamespace as Facts; "
    hide += f"os.statvfs = lambda at: Facts(f_flag=os.ST_NOEXEC * (at != {str(closed)!r})); "
    code = hide + "import runpy, sys; del sys.argv[0]; sys.path.insert(0, sys.argv[0]); "
    code += "runpy.run_path(sys.argv[0], run_name='__main__')"
    words = [stranger["env"]["TELEPORT_LITE_PYTHON"], "-I", "-S", "-c", code]
    stranger["env"] = into(closed)
    words.append(str(stranger.pop("file")))
    said = subprocess.run(words, capture_output=True, text=True, timeout=60, **stranger)
    assert said.returncode == 1
    assert f"  {closed}: [Errno 13] Permission denied" in said.stderr
    assert "  /var/tmp: its file system is mounted noexec\n" in said.stderr
    assert said.stderr.endswith("try: TELEPORT_LITE_ROOT=/a/directory/of/yours\n")


@pytest.mark.parametrize("mode", [0o755, 0o777])
def test_plugins_are_found_beside_the_tree_unless_others_can_write_there(built, root, mode):
    about = root / "plugins" / "printer-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: printer\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[teleport_lite]\nprinter = printer\n")
    for name in ("typer.py", "json.py"):  # last on the path, so never in the way
        (root / "plugins" / name).write_text("raise SystemExit('shadowed')\n")
    (root / "plugins").chmod(mode)
    said = start(built, "plugins", "ls", env=into(root))
    assert said.returncode == 0, said.stderr
    assert ("printer is not in plugins.distributions" in said.stdout) == (mode == 0o755)


# What it refuses


def test_a_cut_off_file_is_refused(built, root, tmp_path):
    cut = tmp_path / "cut.pyz"
    cut.write_bytes(built.read_bytes()[:-1])
    cut.chmod(0o755)
    said = start(cut, "--version", env=into(root))
    assert said.returncode == 1
    assert f"ERROR: {cut} is damaged" in said.stderr
    assert not root.exists()


@pytest.mark.parametrize("where", [0.001, 0.2, 0.5, 0.9, 0.9999])
def test_a_file_with_one_changed_byte_is_refused_before_anything_is_unpacked(
    built, root, tmp_path, where
):
    data = bytearray(built.read_bytes())
    at = int(len(data) * where)
    data[at] ^= 1
    changed = tmp_path / "changed.pyz"
    changed.write_bytes(data)
    changed.chmod(0o755)
    said = start(changed, "--version", env=into(root))
    assert said.returncode != 0
    assert not root.exists()
    if 0.1 < where < 0.99:  # elsewhere it may be the bootstrap or the zip's index that is broken
        assert "is damaged: its digest is not the one that it states" in said.stderr


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o1777])
def test_a_tree_that_others_could_have_made_is_not_loaded(built, root, mode):
    start(built, "--version", env=into(root))
    [leaf] = trees(root)
    (root / leaf / "teleport_lite" / "__main__.py").write_text("raise SystemExit('planted')\n")
    root.chmod(mode)
    (root / leaf).chmod(0o755)
    if mode == 0o1777:  # sticky: others cannot replace the tree, so what is in it is ours
        (root / leaf).chmod(0o777)
    said = start(built, "--version", env=into(root))
    assert said.returncode == 0, said.stderr
    assert said.stdout.startswith(VERSION)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_tree_of_another_user_is_not_loaded(built, root):
    start(built, "--version", env=into(root))
    [leaf] = trees(root)
    (root / leaf / "teleport_lite" / "__main__.py").write_text("raise SystemExit('planted')\n")
    os.chown(root / leaf, NOBODY, NOBODY)
    assert start(built, "--version", env=into(root)).stdout.startswith(VERSION)


def test_a_python_without_a_part_in_the_file_is_told_so(built, root, tmp_path):
    shim = tmp_path / "python"
    code = "import sys, runpy; sys.implementation.cache_tag = 'cpython-399'; "
    code += "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    shim.write_text(f'#!/bin/sh\nshift 2\nexec {sys.executable} -I -S -c "{code}" "$@"\n')
    shim.chmod(0o755)
    said = start(built, "--version", env=into(root) | {"TELEPORT_LITE_PYTHON": str(shim)})
    assert said.returncode == 1
    assert "this Python is cp399-" in said.stderr


# First starts


def test_many_first_starts_at_once_all_run_and_leave_one_tree(built, root):
    with ThreadPoolExecutor(8) as pool:
        said = list(pool.map(lambda _: start(built, "--version", env=into(root)), range(8)))
    assert [each.stdout[: len(VERSION)] for each in said] == [VERSION] * 8
    assert len(trees(root)) == 1
    assert not [path for path in root.iterdir() if path.name.startswith(".making")]


def test_a_first_start_that_was_killed_is_made_good(built, root):
    env = {"PATH": "/usr/bin:/bin", "TELEPORT_LITE_PYTHON": sys.executable} | into(root)
    first = subprocess.Popen([str(built), "--version"], env=env, stdout=subprocess.DEVNULL)
    eventually(lambda: list(root.glob(".making-*/*")) if root.exists() else [])
    first.send_signal(signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    assert start(built, "--version", env=into(root)).stdout.startswith(VERSION)
    assert not list(root.glob(".making-*"))


def test_who_presses_ctrl_c_in_a_first_start_sees_no_traceback_and_leaves_nothing(built, tmp_path):
    for number in range(20):
        root = tmp_path / str(number)
        env = {"PATH": "/usr/bin:/bin", "TELEPORT_LITE_PYTHON": sys.executable} | into(root)
        first = subprocess.Popen(
            [str(built), "version"], env=env, stderr=subprocess.PIPE, text=True
        )
        eventually(lambda root=root: list(root.glob(".making-*/*")) if root.exists() else [])
        first.send_signal(signal.SIGINT)
        assert first.communicate(timeout=60)[1] == ""
        if first.returncode != 0:  # else it was done before we were
            break
    assert first.returncode == 130
    assert [path.name for path in root.iterdir()] == [".lock"]


def test_who_presses_ctrl_c_while_an_installed_program_loads_sees_no_traceback(built, root):
    start(built, "self", "unpack", str(root))
    (tree,) = root.glob("*-cp*")
    (tree / "teleport_lite/__main__.py").write_text("raise KeyboardInterrupt\n")
    shutil.rmtree(tree / "teleport_lite/__pycache__")
    words = [sys.executable, "-I", "-S", str(tree / "_launch.py"), "tctl"]
    said = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert (said.returncode, said.stderr) == (130, "")


def test_old_trees_go_and_those_in_use_stay(built, root):
    target = f"cp{sys.version_info[0]}{sys.version_info[1]}-{os.uname().machine}"
    for age, build in enumerate("abcdef"):
        (root / (build * 16 + "-" + target)).mkdir(parents=True)
        os.utime(root / (build * 16 + "-" + target), (1e9 - age, 1e9 - age))
    (root / "1.2.3").mkdir()  # an installed version, with the header of its file
    header = f"#!/bin/sh\n# teleport-lite 1.2.3 (build {'e' * 16}): "
    (root / "1.2.3" / "teleport-lite.pyz").write_text(header)
    used = root / ("d" * 16 + "-" + target)
    code = "import sys; print(flush=True); sys.stdin.read()"
    user = subprocess.Popen(
        [sys.executable, "-c", code, f"{used}/_launch.py"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert user.stdout
    assert user.stdout.readline() == b"\n"
    starting = os.open(root / ("f" * 16 + "-" + target), os.O_RDONLY)
    fcntl.flock(starting, fcntl.LOCK_SH)
    start(built, "--version", env=into(root))
    user.communicate(b"")
    os.close(starting)
    assert {name[0] for name in trees(root)} >= {"a", "d", "e", "f"}
    assert not {"b" * 16 + "-" + target, "c" * 16 + "-" + target} & set(trees(root))


@pytest.mark.parametrize("first", [True, False])
def test_a_running_program_holds_its_tree(built, root, first):
    if not first:
        start(built, "--version", env=into(root))
    program = subprocess.Popen(
        [built, "node", "configure", "--token=-"],  # waits for somebody to type it
        env={"PATH": "/usr/bin:/bin", "TELEPORT_LITE_PYTHON": sys.executable} | into(root),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        eventually(lambda: root.is_dir() and any(locked(root / name) for name in trees(root)))
        assert program.poll() is None
    finally:
        program.communicate(b"")
    assert not any(locked(root / name) for name in trees(root))


def locked(tree: Path) -> bool:
    lock = os.open(tree, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


# Unpacked by the installer


def test_an_unpacked_tree_is_compiled_and_verified_and_repaired(built, root):
    env = {"TELEPORT_LITE_ROOT": ""}
    said = start(built, "self", "unpack", str(root), env=env)
    assert said.returncode == 0, said.stderr
    tree = Path(said.stdout.strip())
    assert list(tree.glob("teleport_lite/__pycache__/*.pyc"))
    assert start(built, "self", "verify", str(tree)).returncode == 0
    (tree / "teleport_lite" / "errors.py").write_text("")
    (tree / "extra.py").write_text("")
    wrong = start(built, "self", "verify", str(tree))
    assert wrong.returncode == 1
    assert wrong.stdout.splitlines() == ["differs: teleport_lite/errors.py", "extra: extra.py"]
    assert start(built, "self", "unpack", str(root), env=env).returncode == 0
    assert start(built, "self", "verify", str(tree)).returncode == 0


def test_who_can_not_unpack_is_told_what_to_type(built, tmp_path):
    open_ = tmp_path / "home/.local"
    open_.mkdir(parents=True)
    open_.chmod(0o777)
    said = start(built, "self", "unpack", str(open_ / "x"))
    assert said.returncode == 1
    assert said.stderr == (
        f"ERROR: others can write to {open_} (mode 0777)\n  try: chmod go-w '{open_}'\n"
    )
    said = start(built, "self", "unpack", "/proc/x")
    assert said.stderr.startswith("ERROR: /proc/x: no such file or directory\n  try: ")


def test_where_says_what_speaks_against_each_place(built, root):
    root.mkdir(mode=0o777)
    root.chmod(0o777)
    said = start(built, "self", "where", env=into(root))
    assert f"{root}: " in said.stderr
    assert "No such file" in said.stderr
    assert said.stdout.strip()


# Old Pythons


@pytest.mark.parametrize("name", ["__main__.py", "older.py"])
def test_what_an_old_python_reads_is_in_its_language(name):
    source = (ROOT / "packaging" / "boot" / name).read_text()
    tree = ast.parse(source, feature_version=(3, 5))
    too_new = [node for node in ast.walk(tree) if isinstance(node, (ast.JoinedStr, ast.AnnAssign))]
    assert too_new == []  # the parser lets these through


def test_an_old_python_starts_a_newer_one_or_says_what_is_missing(tmp_path):
    older = "import sys; sys.argv[:] = ['-c', 'print(\"newer\")']; import older; "
    older += "older.start_a_newer_python()"
    command = [sys.executable, "-c", older]
    env = {"PYTHONPATH": str(ROOT / "packaging" / "boot"), "PATH": str(tmp_path)}
    alone = subprocess.run(command, env=env, capture_output=True, text=True)
    assert alone.returncode == 1
    assert alone.stderr.startswith("ERROR: teleport-lite needs Python 3.11 or newer")
    (tmp_path / "python3.13").write_text("#!/bin/sh\nexit 1\n")  # a shim of nothing
    (tmp_path / "python3.13").chmod(0o755)
    (tmp_path / "python3.12").symlink_to(sys.executable)
    assert subprocess.run(command, env=env, capture_output=True, text=True).stdout == "newer\n"
