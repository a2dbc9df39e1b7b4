"""tsh ssh."""

import subprocess
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from teleport_lite.cli.lazy import PLAIN
from teleport_lite.cli.show import safe
from teleport_lite.cli.tsh import openssh
from teleport_lite.cli.tsh.desk import desk_of

app = typer.Typer(**PLAIN)


class SshCommand(TyperCommand):
    """Flags may stand before the host and after it, as with ssh. From the first word of the
    command on, all words are the command's own: `tsh ssh web-1 ls -l`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.allow_interspersed_args = False
        before, host, rest = self._split(ctx, args)
        flags: list[str] = []
        # After "--" there are no flags.
        if host and rest and rest[0].startswith("-") and "--" not in before[-1:]:
            flags, first, more = self._split(ctx, rest)
            rest = [*first, *more]
        before = [*(before[:-1] if before[-1:] == ["--"] else before), *flags]
        before = before[:-1] if before[-1:] == ["--"] else before
        return super().parse_args(ctx, [*before, "--", *host, *rest] if host else before)

    def _split(self, ctx: Any, args: list[str]) -> tuple[list[str], list[str], list[str]]:
        """Flags, the first other word, and what follows it."""
        found, _, _ = self.make_parser(ctx).parse_args(list(args))
        rest = list(found.get("command") or ())
        host = [found["target"]] if isinstance(found.get("target"), str) else []
        return args[: len(args) - len(rest) - len(host)], host, rest


def _option(*names: str, help: str, **more: Any) -> Any:
    return typer.Option(*names, help=help, **more)


Many = list[str] | None
_HOST = "Name or UUID of a node, or labels like env=prod."
_OPTION = "For ssh, as in ssh_config(5); ours come first."
_TTY = "A terminal for the command too."


@app.command(cls=SshCommand)
def ssh(
    ctx: typer.Context,
    target: Annotated[str, typer.Argument(metavar="[LOGIN@]HOST", help=_HOST)],
    command: Annotated[Many, typer.Argument(metavar="[COMMAND]...", help="To run there.")] = None,
    agent: Annotated[bool, _option("-A", "--forward-agent", help="Take ssh-agent along.")] = False,
    local: Annotated[Many, _option("-L", "--forward", help="Forward a local port.")] = None,
    remote: Annotated[Many, _option("-R", "--remote-forward", help="And a remote one.")] = None,
    dynamic: Annotated[Many, _option("-D", "--dynamic-forward", help="Be a SOCKS proxy.")] = None,
    idle: Annotated[bool, _option("-N", "--no-remote-exec", help="Only forward.")] = False,
    fork: Annotated[bool, _option("-f", "--fork-after-authentication", help="Then go on.")] = False,
    port: Annotated[int | None, _option("-p", "--port", help="SSH port of the node.")] = None,
    tty: Annotated[int, _option("-t", "--tty", count=True, show_default=False, help=_TTY)] = 0,
    x11: Annotated[bool, _option("-X", "--x11-untrusted", help="Forward X11.")] = False,
    x11_trusted: Annotated[bool, _option("-Y", "--x11-trusted", help="And trust it.")] = False,
    option: Annotated[Many, _option("-o", "--option", help=_OPTION)] = None,
) -> int | None:
    """Open a shell on a node, or run a command there. Ends with its exit status."""
    desk = desk_of(ctx)
    person = desk.person()
    login, host = openssh.split_target(target, desk, person)
    found = openssh.find(host, desk, person)
    switches = {"-A": agent, "-N": idle, "-f": fork, "-X": x11, "-Y": x11_trusted}
    words = ["ssh", *openssh.flags(person), *["-t"] * tty]
    words += [flag for flag, wanted in switches.items() if wanted]
    for flag, values in (("-L", local), ("-R", remote), ("-D", dynamic), ("-o", option)):
        words += [word for value in values or () for word in (flag, value)]
    words += ["-p", str(port)] if port is not None else []
    if command and len(found) > 1:
        return _everywhere(words, login, found, command)
    one = openssh.only(found, host)
    return openssh.become([*words, "--", f"{login}@{one.host}", *(command or ())])


def _everywhere(
    words: list[str], login: str, found: list[openssh.Target], command: list[str]
) -> int:
    """One node after the other. The first status that is not 0 is ours."""
    path, ended = openssh.installed("ssh"), 0
    for each in found:
        sys.stderr.write(f"{safe(each.shown)}:\n")
        sys.stderr.flush()
        one = [*words, "--", f"{login}@{each.host}", *command]
        status = subprocess.call(one, executable=path, stdin=subprocess.DEVNULL)  # noqa: S603
        ended = ended or status
    return ended
