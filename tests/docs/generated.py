"""Pages that are written by the program itself. `python -m tests.docs.generated` writes them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main

from teleport_lite.cli.main import _app
from teleport_lite.config.reference import reference
from teleport_lite.plugin.builtin import builtin_book

DOCS = Path(__file__).parent.parent.parent / "docs"

CONFIG_HEAD = """\
# Configuration

`teleport-lite start` reads `/etc/teleport-lite.yaml`, or the file that `-c` names, or the
base64 text in `$TELEPORT_CONFIG`. Defaults come first, then the file, then the flags. The file
is read strictly: an unknown key, a wrong type or a bad address is refused with file, line and
key, and with the nearest right one. Nobody but its owner may be able to write it.

`teleport-lite configure` writes a file to begin with; `teleport-lite configure --test FILE`
checks one.

Versions v1, v2 and v3 of Teleport's file are read. v3, which is what `configure` writes, takes
one `auth_server`; v1 and v2 take a list `auth_servers`. In all of them `auth_service`,
`proxy_service` and `ssh_service` are on unless the file says `enabled: no`.

"""
CLI_HEAD = """\
# Commands

One program, four names: `teleport-lite`, `tctl`, `tsh` and `tbot`; `teleport-lite tctl ...` does
the same where a name is taken. Flags may stand before or after the rest, `--flag=value` or
`--flag value`. Listings take `--format=text|json|yaml`. `NO_COLOR` is respected.

Exit codes: 0 ok, 1 error, 2 usage, 3 not found, 4 denied, 5 unreachable, 10 an upgrade is there
(`upgrade --check` alone), 130 Ctrl-C.
"""


def config_page() -> str:
    return CONFIG_HEAD + reference(builtin_book()).strip() + "\n"


def cli_page() -> str:
    parts = [CLI_HEAD]
    for name in ("teleport-lite", "tctl", "tbot", "tsh"):
        parts.append(f"\n## {name}\n")
        command = typer.main.get_command(_app(name))
        for path, help_text in _pages(command, name, None):
            parts.append(f"\n### {path}\n\n```\n{help_text}\n```\n")
    return "".join(parts)


def _pages(command: Any, name: str, parent: Any) -> Iterator[tuple[str, str]]:
    context = command.make_context(
        name, [], parent=parent, resilient_parsing=True, terminal_width=90, max_content_width=90
    )
    path = context.command_path
    yield path, "\n".join(line.rstrip() for line in command.get_help(context).splitlines()).strip()
    for each in command.list_commands(context) if hasattr(command, "list_commands") else ():
        child = command.get_command(context, each)
        if child is not None and not child.hidden:
            yield from _pages(child, each, context)


PAGES = {"config.md": config_page, "cli.md": cli_page}

if __name__ == "__main__":
    for name, write in PAGES.items():
        (DOCS / name).write_text(write())
