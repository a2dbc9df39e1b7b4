# First code of the single file: finds the unpacked tree of this build and starts the program from
# it. It is compiled anew on every start, so what a start rarely needs lives in older.py and
# unpack.py; and every line must be readable to Python 3.5, or older.py never gets its say.
import sys

if sys.version_info < (3, 11):
    import older

    older.start_a_newer_python()
import fcntl
import os

if not (sys.flags.isolated and sys.flags.no_site):  # `python3 FILE`: shut out PYTHONPATH and site
    os.execv(sys.executable, [sys.executable, "-I", "-S"] + sys.argv)

# The file we run from, which the program asks for too (teleport_lite/release/here.py).
FILE = os.path.realpath(os.path.dirname(__file__))
# Like cp311-x86_64. Whatever is not CPython with glibc gets a name that no build has.
TARGET = "%s-%s" % (
    sys.implementation.cache_tag.replace("cpython-", "cp"),
    getattr(sys.implementation, "_multiarch", os.uname().machine).replace("-linux-gnu", ""),
)
BUILD = "@BUILD@"
LEAF = BUILD + "-" + TARGET


def objection(path: str, strict: int = 2) -> str:
    """Why code may not be loaded from this directory; "" if it may.

    Nobody but root and us may be able to change it or put another in its place: it and the one it
    is in (`strict` is how many) must be root's or ours and writable by nobody else, and so must
    all above them, save that a group may write to one of root's: which group, is root's choice.
    The group that a user is alone in is the user.
    A sticky one that holds ours will do, for in there others cannot rename what is not theirs.
    """
    here, below = os.path.realpath(path), ""
    level = 0
    while here != below:
        try:
            facts = os.lstat(here)
        except OSError as why:
            return "%s: %s" % (here, why.strerror)
        mode = facts.st_mode
        if mode & 0o170000 != 0o040000:
            return here + " is not a directory"
        if facts.st_uid not in (0, os.geteuid()):
            return "%s belongs to uid %d" % (here, facts.st_uid)
        wide = facts.st_uid == 0 and level >= strict
        others = 0o002 if wide or alone(facts.st_uid, facts.st_gid, mode) else 0o022
        if mode & others and not (level and mode & 0o1000):
            return "others can write to %s (mode %04o)" % (here, mode & 0o7777)
        below, here = here, os.path.dirname(here)
        level += 1
    return ""


def alone(uid: int, gid: int, mode: int) -> bool:
    """Has a directory that its group may write to the private group of its user? Debian's and
    Ubuntu's users have one by that name and number, and make such directories; sshd trusts it too.
    """
    if not mode & 0o020 or not uid or uid != gid:
        return False
    import grp
    import pwd

    try:
        name, group = pwd.getpwuid(uid).pw_name, grp.getgrgid(gid)
    except KeyError:
        return False
    return group.gr_name == name and not set(group.gr_mem) - {name}


def roots() -> "list[tuple[str, bool]]":
    """Directories that may hold trees, each with whether a mere start may put one there."""
    env = os.environ
    if env.get("TELEPORT_LITE_ROOT"):
        return [(env["TELEPORT_LITE_ROOT"], True)]
    beside = os.path.dirname(FILE)
    found = [(beside, False)]
    for place in (os.path.dirname(beside), "/usr/local/lib/teleport-lite"):
        # The one above, if we are PREFIX/lib/teleport-lite/1.2.3/teleport-lite.pyz.
        if place.endswith("/teleport-lite") and (place, False) not in found:
            found.append((place, False))
    found.append(("/var/cache/teleport-lite", os.geteuid() == 0))
    for name in ("CACHE_DIRECTORY", "RUNTIME_DIRECTORY"):  # systemd sets them for a unit
        if env.get(name):
            found.append((env[name].split(":")[0] + "/trees", True))
    for name, below in (("XDG_CACHE_HOME", ""), ("HOME", "/.cache"), ("XDG_RUNTIME_DIR", "")):
        if env.get(name, "").startswith("/"):
            found.append((env[name] + below + "/teleport-lite", True))
    return found


def tree() -> str:
    for root, _ in roots():
        here = root + "/" + LEAF
        if os.path.isdir(here) and not objection(here) and held(here):
            return here
    import unpack

    found = unpack.somewhere()
    held(found)
    return found


def held(tree: str) -> bool:
    """Keep a tree from being tidied away for as long as we live; False if it has just gone.

    By a shared lock, which whoever tidies asks for alone (unpack.tidy). Only a hint: who may not
    have it goes on without, for any user can hold locks on what is root's.
    """
    try:  # noqa: SIM105  # contextlib would be one more import for each start
        fcntl.flock(os.open(tree, os.O_RDONLY), fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        pass
    return os.path.isdir(tree)


def start() -> "int":
    if sys.argv[1:2] == ["self"] and sys.argv[2:3] in (["unpack"], ["verify"], ["where"]):
        import commands

        return commands.command(sys.argv[2], sys.argv[3:])
    sys.path[0] = tree()
    # Where `pip install --target` puts distributions that the configuration may invite as plugins.
    # Last, so that nothing in there can stand in for what is ours or Python's.
    plugins = os.path.dirname(sys.path[0]) + "/plugins"
    if os.path.isdir(plugins) and not objection(plugins):
        sys.path.append(plugins)
    from teleport_lite.__main__ import main

    return main()


try:
    code = start()
except KeyboardInterrupt:  # what was half made is gone by now
    code = 130
sys.exit(code)
