"""The flags that `tbot start` and `tbot configure` share, as they are typed."""

from enum import StrEnum
from typing import Annotated

import typer


class LogForm(StrEnum):
    TEXT = "text"
    JSON = "json"


Kind = Annotated[str, typer.Argument(help="What to write. Only identity is there yet.")]
Token = Annotated[
    str,
    typer.Option(
        envvar="TELEPORT_BOT_TOKEN",
        show_envvar=True,
        help="Token of tctl bots add: a value, an absolute path, env:NAME, or - for stdin.",
    ),
]
AuthServer = Annotated[
    str,
    typer.Option(
        "--auth-server",
        "-a",
        envvar="TELEPORT_AUTH_SERVER",
        help="Auth, or a proxy, to join: host[:port]. Several with commas.",
    ),
]
ProxyServer = Annotated[
    str, typer.Option(envvar="TELEPORT_PROXY", help="Proxies to join through, likewise.")
]
CaPin = Annotated[
    list[str] | None,
    typer.Option(help="sha256:... of the host CA (see: tctl status), or a file. Repeatable."),
]
JoinMethod = Annotated[str, typer.Option(help="How the bot proves itself: token.")]
CertificateTtl = Annotated[str, typer.Option(help="How long certificates work. [default: 1h]")]
RenewalInterval = Annotated[str, typer.Option(help="How often to renew. [default: 20m]")]
Storage = Annotated[
    str,
    typer.Option(
        "--storage",
        "--data-dir",
        help="Where the bot keeps what it renews with. [default: /var/lib/teleport-lite/bot]",
    ),
]
Destination = Annotated[
    list[str] | None,
    typer.Option(
        "--destination", "--destination-dir", help="Where programs find the files. Repeatable."
    ),
]
Oneshot = Annotated[bool, typer.Option("--oneshot/--no-oneshot", help="Write once and end.")]
DiagAddr = Annotated[str, typer.Option(help="Not part of this version.", hidden=True)]
LogFormat = Annotated[LogForm, typer.Option(help="Form of the log.")]
