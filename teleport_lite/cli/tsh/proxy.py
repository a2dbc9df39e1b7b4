"""tsh proxy. `quick.py` does `tsh proxy ssh` as ssh calls it; here is every other way."""

from typing import Annotated

import typer

from teleport_lite.cli.lazy import PLAIN
from teleport_lite.cli.tsh.desk import desk_of
from teleport_lite.cli.tsh.quick import asked_of
from teleport_lite.errors import Unavailable

ANYTHING = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
app = typer.Typer(help="Carry a connection through the proxy.", **PLAIN)


@app.command()
def ssh(
    ctx: typer.Context,
    target: Annotated[
        str, typer.Argument(metavar="[LOGIN@]HOST[:PORT]", help="A node, as ssh names it.")
    ],
) -> None:
    """Connect standard input and output with the SSH port of a node (a ProxyCommand)."""
    from teleport_lite.client.leaf_proof import proof_of
    from teleport_lite.client.reach import carry
    from teleport_lite.config.address import split_address
    from teleport_lite.net.tls import client_context

    desk = desk_of(ctx)
    person = desk.person()
    context = client_context(person.tls_cert, person.tls_key, person.proxy_cas)
    asked = asked_of(target, person.cluster)
    if person.root:
        asked["proof"] = proof_of(asked, person.tls_cert, person.tls_key)
    carry(split_address(person.through()), context, asked)


def not_yet(ctx: typer.Context) -> None:
    """Not yet."""
    raise Unavailable(f"tsh proxy {ctx.info_name} is not in this version", hint="tsh ssh --forward")


for name in ("app", "db", "kube"):
    app.command(name, hidden=True, context_settings=ANYTHING)(not_yet)
