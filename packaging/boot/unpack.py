"""The rare part of a start: checking the file and unpacking it, and the `self` commands.

A tree is made beside its final place and renamed into it, so it is there whole or not at all.
Before the first byte is written, the whole file is compared with the digest in its header.
"""

import atexit
import contextlib
import fcntl
import hashlib
import io
import json
import os
import re
import shutil
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator

import __main__ as start

NAME = "teleport-lite"
TOOLS_OWN = ("_launch.py", "__pycache__")  # what a tree holds besides the payload
PATIENCE = 60  # seconds to wait for another first start; unpacking takes 1 to 2
STALE = 3600  # seconds after which a half-made tree is nobody's any more
TREE = re.compile(r"(?P<build>[0-9a-f]{16})-(?P<target>cp\d+-\w+)")


class Refused(Exception):
    """The file or the place will not do: a message, and what to try."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message, self.hint = message, hint


def somewhere() -> str:
    """Unpack where we may, and say where; ends the process with a message if that is nowhere."""
    try:
        payload = read_payload()
    except Refused as why:
        sys.exit(told(why))
    objections = []
    for root, mine in start.roots():
        if not mine:
            continue
        try:
            return make(root, payload)
        except (OSError, Refused) as why:
            objections.append(f"  {root}: {why}")
    try:
        return for_this_process(payload)
    except OSError as why:
        objections.append(f"  {why}")
    sys.stderr.write("\n".join([f"{NAME} can unpack itself nowhere:", *objections, ""]))
    sys.exit(told(Refused("no directory to unpack to", "TELEPORT_LITE_ROOT=/a/directory/of/yours")))


def told(why: Refused) -> int:
    sys.stderr.write(f"ERROR: {why.message}\n  try: {why.hint}\n")
    return 1


# The file


def read_payload() -> dict[str, bytes]:
    """The inner archives for this Python, each as the manifest says; Refused if anything is off."""
    with open(start.FILE, "rb") as file:
        whole = file.read()
    again = "copy or build the file again"
    stated = re.search(rb"zeros: ([0-9a-f]{64})\n", whole[:1000])
    if stated is None or stated[1].decode() != digest_without(whole, stated.span(1)):
        raise Refused(f"{start.FILE} is damaged: its digest is not the one that it states", again)
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        manifest = json.loads(archive.read("BUILD.json"))
        parts = manifest["targets"].get(start.TARGET)
        if parts is None:
            there = ", ".join(sorted(manifest["targets"]))
            raise Refused(
                f"this file is for {there}; this Python is {start.TARGET} ({sys.executable})",
                "TELEPORT_LITE_PYTHON=/path/to/another/python3, or a build for this one",
            )
        blobs = {part: archive.read(f"payload/{part}.zip") for part in parts}
    for part, blob in blobs.items():
        if hashlib.sha256(blob).hexdigest() != manifest["digests"][part]:
            raise Refused(f"{start.FILE} is damaged: part {part}", again)
    return blobs


def digest_without(whole: bytes, stated: tuple[int, int]) -> str:
    digest = hashlib.sha256(whole[: stated[0]])
    digest.update(b"0" * 64)
    digest.update(memoryview(whole)[stated[1] :])
    return digest.hexdigest()


def contents(payload: dict[str, bytes]) -> Iterator[tuple[str, bytes, bool]]:
    """Name, bytes and whether it is a library, of every file in a tree."""
    for blob in payload.values():
        with zipfile.ZipFile(io.BytesIO(blob)) as archive:
            for entry in archive.infolist():
                library = bool(entry.external_attr >> 16 & 0o100)
                yield entry.filename, archive.read(entry), library


# The tree


def make(root: str, payload: dict[str, bytes], *, compiled: bool = False) -> str:
    """The tree in `root`, made if it is not there. Raises OSError or Refused."""
    final = os.path.join(os.path.realpath(root), start.LEAF)
    # Root's trees are for everybody to read; a session on a node imports as its login user.
    old_mask = os.umask(0o022 if os.geteuid() == 0 else 0o077)
    try:
        os.makedirs(root, exist_ok=True)
        if why := start.objection(root, strict=1):
            raise Refused(why, "")
        if os.statvfs(root).f_flag & os.ST_NOEXEC:
            raise Refused("its file system is mounted noexec", "")
        with one_at_a_time(root):
            if not os.path.isdir(final):
                build(final, payload, compiled=compiled)
                with contextlib.suppress(OSError):  # a chore, whose failure must not stop a start
                    tidy(root)
        if why := start.objection(final):
            raise Refused(why, "")
    finally:
        os.umask(old_mask)
    return final


def build(final: str, payload: dict[str, bytes], *, compiled: bool = False) -> None:
    tmp = f"{os.path.dirname(final)}/.making-{os.path.basename(final)}-{os.getpid()}"
    shutil.rmtree(tmp, ignore_errors=True)  # of a process long gone that had our number
    try:
        for name, data, library in contents(payload):
            path = os.path.join(tmp, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "wb") as file:
                file.write(data)
            if library:
                os.chmod(path, 0o755 & os.stat(tmp).st_mode)
        if compiled:
            byte_compile(tmp, final)
        os.sync()  # or a power cut could leave a tree of empty files that looks complete
        os.rename(tmp, final)
    except OSError:
        if not os.path.isdir(final):  # else somebody without our lock was faster
            raise
    finally:
        shutil.rmtree(tmp, ignore_errors=True)


def byte_compile(tree: str, final: str) -> None:
    """Compile all now, for the place it will be in, never to be compared with the source again."""
    import compileall
    import py_compile

    compileall.compile_dir(
        tree,
        quiet=2,
        stripdir=tree,
        prependdir=final,
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )


@contextlib.contextmanager
def one_at_a_time(root: str) -> Iterator[None]:
    """Let one process unpack while others wait. Without locks all unpack, and one wins."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    lock = os.open(os.path.join(root, ".lock"), flags, 0o600)
    deadline = time.monotonic() + PATIENCE
    try:
        while time.monotonic() < deadline:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.05)
            except OSError:  # a file system without locks
                break
        yield
    finally:
        os.close(lock)


def for_this_process(payload: dict[str, bytes]) -> str:
    """The last resort: a tree of our own that goes when we go."""
    forget_the_dead()
    owner = os.getpid()
    root = tempfile.mkdtemp(prefix=f"{NAME}-{owner}-")

    def clear() -> None:
        if os.getpid() == owner:  # a forked child must not take its parent's tree away
            shutil.rmtree(root, ignore_errors=True)

    atexit.register(clear)
    if os.geteuid() == 0:
        os.chmod(root, 0o755)
    final = os.path.join(root, start.LEAF)
    build(final, payload)
    return final


def forget_the_dead() -> None:
    """Trees of processes that were killed or became another program, and are gone now."""
    for entry in os.scandir(tempfile.gettempdir()):
        found = re.fullmatch(NAME + r"-(\d+)-\w+", entry.name)
        mine = found and entry.stat(follow_symlinks=False).st_uid == os.geteuid()
        if found and mine and not os.path.exists(f"/proc/{found[1]}"):
            shutil.rmtree(entry.path, ignore_errors=True)


def tidy(root: str) -> None:
    """Keep the two newest trees for this Python and those in use; the rest goes."""
    trees = []
    for entry in os.scandir(root):
        age = time.time() - entry.stat(follow_symlinks=False).st_mtime
        if entry.name.startswith(".making-") and age > STALE:
            shutil.rmtree(entry.path, ignore_errors=True)
        found = TREE.fullmatch(entry.name)
        if found and found["target"] == start.TARGET and entry.name != start.LEAF:
            trees.append((age, entry.path, found["build"]))
    for _, path, build_id in sorted(trees)[1:]:
        if not in_use(path):
            shutil.rmtree(path, ignore_errors=True)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(root, "launch-" + build_id))


def in_use(tree: str) -> bool:
    """Whether a process that we can see has the tree's libraries mapped or was started from it."""
    wanted = os.fsencode(tree) + b"/"
    for entry in os.scandir("/proc"):
        for name in ("maps", "cmdline") if entry.name.isdigit() else ():
            with contextlib.suppress(OSError), open(f"{entry.path}/{name}", "rb") as file:
                if wanted in file.read():
                    return True
    return False


# The commands


def command(name: str, arguments: list[str]) -> int:
    try:
        if name == "unpack" and len(arguments) == 1:
            return install_tree(os.path.abspath(arguments[0]))
        if name == "verify" and len(arguments) < 2:
            return verify(*arguments)
        if name == "where" and not arguments:
            return where()
    except Refused as why:
        return told(why)
    except OSError as why:
        return told(Refused(str(why), "another directory, or more rights"))
    sys.stderr.write("usage: self unpack DIRECTORY | self verify [TREE] | self where\n")
    return 2


def install_tree(root: str) -> int:
    """A byte-compiled tree in `root`, and the file that lets the shell header start it at once."""
    payload = read_payload()
    final = os.path.join(os.path.realpath(root), start.LEAF)
    if os.path.isdir(final) and differences(final, payload):
        aside = f"{os.path.dirname(final)}/.making-aside-{os.getpid()}"
        os.rename(final, aside)  # a process that runs from it keeps the files it has open
        shutil.rmtree(aside, ignore_errors=True)
    make(root, payload, compiled=True)
    main = os.path.join(final, "_launch.py")
    plugins = os.path.join(root, "plugins")  # only root (or whoever installs) can write there
    write(
        main,
        f"import sys\n\ndel sys.argv[0]\nsys.path[:] = [{final!r}, *sys.path, {plugins!r}]\n"
        "from teleport_lite.__main__ import main\n\nsys.exit(main())\n",
    )
    started = f"py={quoted(os.path.realpath(sys.executable))}\nmain={quoted(main)}\n"
    write(os.path.join(root, "launch-" + start.BUILD), started)
    print(final)
    return 0


def write(path: str, text: str) -> None:
    with contextlib.suppress(FileNotFoundError), open(path) as file:
        if file.read() == text:
            return
    tmp = f"{path}.{os.getpid()}"
    with open(os.open(tmp, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "w") as file:
        file.write(text)
    os.rename(tmp, path)


def quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def differences(tree: str, payload: dict[str, bytes]) -> list[str]:
    """How a tree differs from this file, one line each."""
    wanted, found = set(), []
    for name, data, _ in contents(payload):
        wanted.add(name)
        try:
            with open(os.path.join(tree, name), "rb") as file:
                same = file.read() == data
        except OSError:
            same = False
        if not same:
            found.append("differs: " + name)
    for place, _, names in os.walk(tree):
        for name in names:
            path = os.path.relpath(os.path.join(place, name), tree)
            if path not in wanted and not set(path.split("/")) & set(TOOLS_OWN):
                found.append("extra: " + path)
    return found


def verify(tree: str = "") -> int:
    payload = read_payload()
    tree = tree or start.tree()
    found = differences(tree, payload)
    if found:
        print("\n".join(found))
        raise Refused(f"{tree} is not what this file holds", f"rm -r {tree}, then start again")
    print(f"{start.FILE} is whole, and {tree} is what it holds")
    return 0


def where() -> int:
    """The tree on stdout; on stderr each place that was looked at, and what speaks against it."""
    for root, mine in start.roots():
        why = start.objection(os.path.join(root, start.LEAF))
        may = "may unpack there" if mine else "only `self unpack` puts it there"
        sys.stderr.write(f"{root}: {why or 'has the tree'} ({may})\n")
    print(start.tree())
    return 0
