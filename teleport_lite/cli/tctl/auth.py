"""tctl auth: sign, export, ls, rotate."""

from typing import Annotated

import typer

from teleport_lite.cli.lazy import PLAIN
from teleport_lite.cli.show import Format, as_yaml, emit, expiry, out, safe, table
from teleport_lite.cli.tctl.auth_rotate import rotate
from teleport_lite.cli.tctl.desk import Desk, desk_of
from teleport_lite.cli.tctl.shape import Shape
from teleport_lite.cli.tctl.users import split
from teleport_lite.client.facts import Facts

app = typer.Typer(help="Certificates and certificate authorities.", **PLAIN)

USER_TTL, HOST_TTL = "12h", "720h"


@app.command()
def sign(
    ctx: typer.Context,
    to: Annotated[str, typer.Option("--out", "-o", help="Where to write; the first file's name.")],
    user: Annotated[str, typer.Option(help="Name of the user the certificates are for.")] = "",
    host: Annotated[str, typer.Option(help="Or names of a host, with commas.")] = "",
    format: Annotated[
        Shape, typer.Option(help="One file, OpenSSH's two, or key, certificate and CAs for TLS.")
    ] = Shape.FILE,
    ttl: Annotated[
        str, typer.Option(help=f"How long they work; {USER_TTL} for users, {HOST_TTL} for hosts.")
    ] = "",
    overwrite: Annotated[
        bool, typer.Option("--overwrite/--no-overwrite", help="Replace files that exist.")
    ] = False,
) -> None:
    """Make keys here and have certificates signed for them. Private keys are not sent."""
    if bool(user) == bool(host):
        ctx.fail("one of --user and --host is needed, and only one")
    from teleport_lite.cli.tctl.parcel import Parcel

    desk = desk_of(ctx)
    parcel = Parcel(to, format, overwrite=overwrite)
    request = parcel.request(user or split([host])[0])
    admin = desk.admin()
    if user:
        signed = admin.sign_user(user=user, ttl=ttl or USER_TTL, **request)
    else:
        signed = admin.sign_host(names=split([host]), ttl=ttl or HOST_TTL, **request)
    written = parcel.write(signed)
    out(_written(desk, signed, written, parcel.try_it(signed) if user else ""))


@app.command()
def export(
    ctx: typer.Context,
    type: Annotated[
        str,
        typer.Option(help="user, host, tls-user, tls-host, openssh or db; user and host if none."),
    ] = "",
) -> None:
    """Print the public half of certificate authorities."""
    admin = desk_of(ctx).admin()
    out("".join(safe(admin.export_ca(each)) for each in ([type] if type else ["user", "host"])))


@app.command()
def ls(
    ctx: typer.Context,
    format: Annotated[Format, typer.Option(help="Form of the answer.")] = Format.TEXT,
) -> None:
    """List the certificate authorities, without their private keys."""
    found = desk_of(ctx).admin().get_resources("cert_authority")
    if format is Format.YAML:
        return out("---\n".join(as_yaml(each.plain) for each in found))
    specs = [each.one("spec") for each in found]
    rows = [
        (
            spec.text("cluster_name"),
            spec.text("type"),
            "active" if spec.flag("active") else "trusted",
        )
        for spec in specs
    ]
    return emit(
        [each.plain for each in found], format, lambda: table(("Cluster", "Type", "State"), rows)
    )


app.command()(rotate)
app.command("list", hidden=True)(ls)


def _written(desk: Desk, signed: Facts, files: list[str], try_it: str) -> str:
    return safe(
        f"The credentials have been written to {', '.join(files)}\n"
        f"They are valid until {expiry(signed.moment('expires'), desk.clock.now())}\n"
    ) + (f"\nTo log in with them:\n\n{safe(try_it)}" if try_it else "")
