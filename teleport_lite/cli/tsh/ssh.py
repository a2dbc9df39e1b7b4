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


@app.command(cls=SshCommand)
def ssh(
    ctx: typer.Context,
    target: Annotated[
        str,
        typer.Argument(
            metavar="[LOGIN@]HOST", help="Name or UUID of a node, or labels like env=prod."
        ),
    ],
    command: Annotated[
        list[str] | None, typer.Argument(metavar="[COMMAND]...", help="To run there.")
    ] = None,
    forward_agent: Annotated[
        bool, typer.Option("-A", "--forward-agent", help="Take ssh-agent along.")
    ] = False,
    local: Annotated[
        list[str] | None, typer.Option("-L", "--forward", help="Forward a local port.")
    ] = None,
    remote: Annotated[
        list[str] | None, typer.Option("-R", "--remote-forward", help="Forward a remote port.")
    ] = None,
    dynamic: Annotated[
        list[str] | None, typer.Option("-D", "--dynamic-forward", help="Be a SOCKS proxy.")
    ] = None,
    no_command: Annotated[
        bool, typer.Option("-N", "--no-remote-exec", help="Run nothing, only forward.")
    ] = False,
    background: Annotated[
        bool, typer.Option("-f", "--fork-after-authentication", help="Go to the background.")
    ] = False,
    port: Annotated[int | None, typer.Option("-p", "--port", help="SSH port of the node.")] = None,
    tty: Annotated[
        int,
        typer.Option(
            "-t", "--tty", count=True, show_default=False, help="A terminal for the command too."
        ),
    ] = 0,
    x11: Annotated[bool, typer.Option("-X", "--x11-untrusted", help="Forward X11.")] = False,
    x11_trusted: Annotated[
        bool, typer.Option("-Y", "--x11-trusted", help="Forward X11, and trust the node.")
    ] = False,
    option: Annotated[
        list[str] | None,
        typer.Option("-o", "--option", help="For ssh, as in ssh_config(5); ours come first."),
    ] = None,
) -> int | None:
    """Open a shell on a node, or run a command there. Ends with its exit status."""
    desk = desk_of(ctx)
    person = desk.person()
    login, host = openssh.split_target(target, desk, person)
    found = openssh.find(host, desk, person)
    words = ["ssh", *openssh.flags(person), *["-t"] * tty]
    switches = {
        "-A": forward_agent, "-N": no_command, "-f": background, "-X": x11, "-Y": x11_trusted
    }  # fmt: skip
    words += [flag for flag, wanted in switches.items() if wanted]
    for flag, values in (("-L", local), ("-R", remote), ("-D", dynamic), ("-o", option)):
        words += [word for value in values or () for word in (flag, value)]
    words += ["-p", str(port)] if port is not None else []
    if not command or len(found) == 1:
        only = openssh.only(found, host)
        openssh.become([*words, "--", f"{login}@{only.host}", *(command or ())])
    return _everywhere(words, login, found, command)


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
