"""The rare part of a start: checking the file and unpacking it.

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
STALE = 3600  # seconds after which a half-made tree is nobody's any more, where there are no locks
SETTLED = 60  # seconds by which a tree of one process has its lock
TREE = re.compile(r"(?P<build>[0-9a-f]{16})-(?P<target>cp\d+-\w+)")
MAKING = re.compile(r"\.making-(aside|[0-9a-f]{16}-cp\d+-\w+)-\d+")  # installers have others


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
    for place in temporary():
        try:
            return for_this_process(place, payload)
        except (OSError, Refused) as why:
            objections.append(f"  {place}: {why}")
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


def make(root: str, payload: dict[str, bytes], *, installed: bool = False) -> str:
    """The tree in `root`, made if it is not there. Raises OSError or Refused.

    `installed`: byte-compiled, and made anew if it is not what the file holds.
    """
    final = os.path.join(os.path.realpath(root), start.LEAF)
    with own_umask():
        os.makedirs(root, exist_ok=True)
        if why := start.objection(root, strict=1):
            raise Refused(why, way_out(why))
        refuse_noexec(root)
        with one_at_a_time(root) as alone:
            sweep(root, alone=alone)
            if installed and os.path.isdir(final) and spoilt(final, payload):
                put_aside(final)
            if not os.path.isdir(final):
                build(final, payload, compiled=installed)
                with contextlib.suppress(OSError):  # a chore, whose failure must not stop a start
                    tidy(root)
        if why := start.objection(final):
            raise Refused(why, "another directory")
    return final


def way_out(why: str) -> str:
    """Many a home was made with umask 002, and ~/.local is a group's."""
    found = re.fullmatch(r"others can write to (.+) \(mode \d+\)", why)
    return f"chmod go-w '{found[1]}'" if found else "another directory"


@contextlib.contextmanager
def own_umask() -> Iterator[None]:
    """Whatever umask we were called with: nobody else shall write to what we make.

    Root's trees are for everybody to read; a session on a node imports as its login user.
    """
    old = os.umask(0o022 if os.geteuid() == 0 else 0o077)
    try:
        yield
    finally:
        os.umask(old)


def refuse_noexec(place: str) -> None:
    if os.statvfs(place).f_flag & os.ST_NOEXEC:
        raise Refused("its file system is mounted noexec", "another directory")


def spoilt(tree: str, payload: dict[str, bytes]) -> bool:
    """Whether a tree is not the one that an installer would make: half of it, or changed."""
    return not os.path.isfile(os.path.join(tree, "_launch.py")) or bool(differences(tree, payload))


def put_aside(tree: str) -> None:
    """Away in one step, for half a tree would be started, and fail. A process that runs from it
    keeps the files it has open."""
    aside = f"{os.path.dirname(tree)}/.making-aside-{os.getpid()}"
    os.rename(tree, aside)
    shutil.rmtree(aside, ignore_errors=True)


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
            # Here now, for Python makes it with the umask that a later process happens to have.
            if name.endswith(".py"):
                os.makedirs(os.path.join(os.path.dirname(path), "__pycache__"), exist_ok=True)
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


@contextlib.contextmanager
def one_at_a_time(root: str) -> Iterator[bool]:
    """Let one process unpack while others wait; says whether we are sure to be the only one.

    Without locks all unpack, and one wins.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    lock = os.open(os.path.join(root, ".lock"), flags, 0o600)
    deadline = time.monotonic() + PATIENCE
    alone = False
    try:
        while not alone and time.monotonic() < deadline:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                alone = True
            except BlockingIOError:
                time.sleep(0.05)
            except OSError:  # a file system without locks
                break
        yield alone
    finally:
        os.close(lock)


def sweep(root: str, *, alone: bool) -> None:
    """What first starts left that were killed; it may be what fills the disk."""
    for entry in os.scandir(root):
        if MAKING.fullmatch(entry.name):
            with contextlib.suppress(OSError):
                if alone or time.time() - entry.stat(follow_symlinks=False).st_mtime > STALE:
                    shutil.rmtree(entry.path, ignore_errors=True)


def tidy(root: str) -> None:
    """Keep the two newest trees for this Python, those of installed versions and those in use."""
    trees = []
    placed = builds_placed(root)
    for entry in os.scandir(root):
        found = TREE.fullmatch(entry.name)
        if found and found["target"] == start.TARGET and entry.name != start.LEAF:
            age = time.time() - entry.stat(follow_symlinks=False).st_mtime
            trees.append((age, entry.path, found["build"]))
    for _, path, build_id in sorted(trees)[1:]:
        if build_id not in placed and not in_use(path) and removed(path):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(root, "launch-" + build_id))


def removed(tree: str) -> bool:
    """Take a tree away, unless somebody holds it: whoever has just started, mostly."""
    with contextlib.suppress(OSError):
        lock = os.open(tree, os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # At once, so that nobody finds half a tree.
            aside = f"{os.path.dirname(tree)}/.making-aside-{os.path.basename(tree)}-{os.getpid()}"
            os.rename(tree, aside)
        finally:
            os.close(lock)
        shutil.rmtree(aside, ignore_errors=True)
        return True
    return False


def builds_placed(root: str) -> set[str]:
    """Those of the files in ROOT/1.2.3/. Which of these stay is not for a start to decide."""
    found = set()
    for version in os.listdir(root):
        path = os.path.join(root, version, NAME + ".pyz")
        with contextlib.suppress(OSError), open(path, "rb") as file:
            stated = re.search(rb"\(build ([0-9a-f]{16})\)", file.read(200))
            if stated:
                found.add(stated[1].decode())
    return found


def in_use(tree: str) -> bool:
    """Whether a process that we can see has the tree's libraries mapped or was started from it."""
    wanted = os.fsencode(tree) + b"/"
    for entry in os.scandir("/proc"):
        for name in ("maps", "cmdline") if entry.name.isdigit() else ():
            with contextlib.suppress(OSError), open(f"{entry.path}/{name}", "rb") as file:
                if wanted in file.read():
                    return True
    return False


# The last resort


def temporary() -> list[str]:
    """Directories for what shall not stay; the first may be TMPDIR."""
    found = ["/var/tmp", "/dev/shm"]
    with contextlib.suppress(OSError):  # there is none that it could write to
        found.insert(0, tempfile.gettempdir())
    return list(dict.fromkeys(found))


def for_this_process(place: str, payload: dict[str, bytes]) -> str:
    """A tree of our own in `place` that goes when we go. Raises OSError or Refused."""
    refuse_noexec(place)
    forget_the_dead(place)
    owner = os.getpid()
    root = tempfile.mkdtemp(prefix=f"{NAME}-", dir=place)

    def clear() -> None:
        if os.getpid() == owner:  # a forked child must not take its parent's tree away
            shutil.rmtree(root, ignore_errors=True)

    try:
        # In a user namespace where nobody is root, nothing can be told by owners.
        if os.stat("/").st_uid in (0, os.geteuid()) and (why := start.objection(root)):
            raise Refused(why, "")
        hold(root)
        if os.geteuid() == 0:
            os.chmod(root, 0o755)
        final = os.path.join(root, start.LEAF)
        with own_umask():
            build(final, payload)
    except BaseException:
        clear()  # or there is no room for the next try
        raise
    atexit.register(clear)
    return final


def hold(root: str) -> None:
    """Lock it for as long as we or a forked child live; never closed on purpose."""
    lock = os.open(os.path.join(root, ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with contextlib.suppress(OSError):  # no locks here, so nobody will take it for forgotten
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def forget_the_dead(place: str) -> None:
    """Remove trees of processes that were killed or became another program.

    Others come and go meanwhile. A lock and not the number of a process tells the living from
    the dead: another container that shares this directory has numbers of its own.
    """
    for entry in os.scandir(place):
        if not re.fullmatch(NAME + r"-\w{8}", entry.name):
            continue
        with contextlib.suppress(OSError):
            facts = entry.stat(follow_symlinks=False)
            mine = facts.st_uid == os.geteuid() and entry.is_dir(follow_symlinks=False)
            if mine and time.time() - facts.st_mtime > SETTLED and not is_held(entry.path):
                shutil.rmtree(entry.path, ignore_errors=True)


def is_held(root: str) -> bool:
    try:
        lock = os.open(os.path.join(root, ".lock"), os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(lock)
    return False
