"""Where the program starts: one file, four names.

`argv[0]` decides between teleport-lite, tctl, tsh and tbot; `teleport-lite tctl ...` does the
same where a name is taken. Asking for the version imports nothing else: scripts and
installers do it often, and it must work when everything else is broken.
"""

import os
import sys

from teleport_lite import __version__
from teleport_lite.cli import OTHERS

MAIN = "teleport-lite"
# Spelled out: collections.abc would cost `--version` a sixth of its time.
Argv = list[str] | tuple[str, ...]


def main(argv: Argv | None = None) -> int:
    """Run the command of `argv` (a whole one, program name first). Returns the exit code."""
    program, words = choose(sys.argv if argv is None else argv)
    tsh = program.endswith("tsh")
    if words in (["--version"], ["version"]) and not (tsh and words == ["version"] and _profile()):
        print(f"{MAIN} v{__version__} {_python()}")
        return 0
    if words == ["version", "--raw"]:
        print(__version__)
        return 0
    if tsh and words[:2] == ["proxy", "ssh"]:
        # On the path of every ssh through a proxy.
        from teleport_lite.cli.tsh.quick import quick

        code = quick(words[2:])
        if code is not None:
            return code
    if program == MAIN and words[:1] == ["zygote"]:
        # On the path of every start of a node.
        from teleport_lite.node.lean import leave_out

        leave_out()
        from teleport_lite.node.outside import main as zygote

        return zygote(words[1:])
    import gc

    gc.disable()  # until the command is loaded (cli/lazy.py): what modules make is not garbage
    from teleport_lite.cli.main import run

    return run(program, words)


def choose(argv: Argv) -> tuple[str, list[str]]:
    """Which program, under the name to show in usage lines, and the words that are left."""
    called = argv[0].rpartition("/")[2] if argv else MAIN
    words = list(argv[1:])
    for name in OTHERS:
        if called in (name, f"{name}.pyz"):
            return name, words
    if words and words[0] in OTHERS:
        return f"{MAIN} {words[0]}", words[1:]
    return MAIN, words


def _profile() -> bool:
    """Is somebody logged in? Then `tsh version` tells of the proxy too."""
    home = os.environ.get("TELEPORT_HOME") or os.path.expanduser("~/.tsh")  # noqa: PTH111  # quick
    return os.path.exists(home + "/current-profile")  # noqa: PTH110


def _python() -> str:
    return "python{}.{}.{}".format(*sys.version_info[:3])


if __name__ == "__main__":
    sys.exit(main())
