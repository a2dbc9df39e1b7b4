"""`self unpack`, `self verify`, `self where`: what installers and the curious ask of the file."""

import contextlib
import errno
import os
import sys

import __main__ as start
from unpack import Refused, differences, make, own_umask, read_payload, told

LAUNCH = """\
import os
import sys

del sys.argv[0]
FILE = os.path.realpath(sys.argv[0])
sys.path.insert(0, {tree!r})
try:
    # Only who installed us can write there, unless they opened it.
    if not os.stat({plugins!r}).st_mode & 0o022:
        sys.path.append({plugins!r})
except OSError:
    pass
try:
    from teleport_lite.__main__ import main

    code = main()
except KeyboardInterrupt:  # before there was anybody to see to it
    code = 130
sys.exit(code)
"""


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
        return told(unable(why, arguments))
    sys.stderr.write("usage: self unpack DIRECTORY | self verify [TREE] | self where\n")
    return 2


def unable(why: OSError, arguments: "list[str]") -> Refused:
    place = why.filename or " ".join(arguments) or start.FILE
    full = why.errno in (errno.ENOSPC, errno.EDQUOT)
    hint = f"df -h {place}" if full else "another directory, or more rights"
    return Refused(f"{place}: {(why.strerror or str(why)).lower()}", hint)


def install_tree(root: str) -> int:
    """A byte-compiled tree in `root`, and the file that lets the shell header start it at once."""
    final = make(root, read_payload(), installed=True)
    main = os.path.join(final, "_launch.py")
    with own_umask():
        write(main, LAUNCH.format(tree=final, plugins=os.path.join(root, "plugins")))
        started = f"py={quoted(os.path.realpath(sys.executable))}\nmain={quoted(main)}\n"
        write(os.path.join(root, "launch-" + start.BUILD), started)
    print(final)
    return 0


def write(path: str, text: str) -> None:
    with contextlib.suppress(FileNotFoundError), open(path) as file:
        if file.read() == text:
            return
    tmp = f"{path}.{os.getpid()}"
    try:
        with open(os.open(tmp, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), "w") as file:
            file.write(text)
        os.rename(tmp, path)
    except OSError:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(tmp)
        raise


def quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


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
