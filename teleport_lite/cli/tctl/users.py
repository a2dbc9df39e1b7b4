"""tctl users: add, ls, update, rm."""

from collections.abc import Sequence
from typing import Annotated

import typer

from teleport_lite.cli.lazy import PLAIN
from teleport_lite.cli.show import Format, emit, line, out, table
from teleport_lite.cli.tctl.desk import desk_of

app = typer.Typer(help="People of the cluster.", **PLAIN)

Lists = list[str] | None


@app.command()
def add(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the user, like alice.")],
    allowed: Annotated[
        str, typer.Argument(metavar="[LOGINS]", help="Logins, as older versions took them.")
    ] = "",
    roles: Annotated[
        Lists, typer.Option(help="Roles, like access or access,editor.  [required]")
    ] = None,
    logins: Annotated[Lists, typer.Option(help="System users they may log in as.")] = None,
    ttl: Annotated[str, typer.Option(help="Of the invite link, once there is one.")] = "1h",
    format: Annotated[Format, typer.Option(help="Form of the answer.")] = Format.TEXT,
) -> None:
    """Add a user."""
    if not split(roles):
        ctx.fail("missing option '--roles', like --roles=access")
    wanted = split([*(logins or ()), allowed])
    made = desk_of(ctx).admin().add_user(name, roles=split(roles), logins=wanted, ttl=ttl)
    emit(made.one("user").plain, format, lambda: _added(name, split(roles), wanted))


@app.command()
def ls(
    ctx: typer.Context,
    format: Annotated[Format, typer.Option(help="Form of the answer.")] = Format.TEXT,
) -> None:
    """List the users."""
    found = desk_of(ctx).admin().list_users()
    rows = [(each.text("name"), ",".join(each.texts("roles"))) for each in found]
    emit(
        [each.plain for each in found],
        format,
        lambda: table(("User", "Roles"), rows) if rows else "No users found",
    )


@app.command()
def update(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the user.")],
    set_roles: Annotated[Lists, typer.Option(help="The roles from now on.")] = None,
    set_logins: Annotated[Lists, typer.Option(help="The logins from now on.")] = None,
) -> None:
    """Change the roles or logins of a user."""
    if set_roles is None and set_logins is None:
        ctx.fail("nothing to change, give --set-roles or --set-logins")
    desk_of(ctx).admin().update_user(
        name,
        roles=None if set_roles is None else split(set_roles),
        logins=None if set_logins is None else split(set_logins),
    )
    changed = [
        f"{what}: {','.join(split(value)) or 'none'}"
        for what, value in (("roles", set_roles), ("logins", set_logins))
        if value is not None
    ]
    out(f'User "{line(name)}" has been updated, {"; ".join(line(each) for each in changed)}')


@app.command()
def rm(
    ctx: typer.Context,
    names: Annotated[str, typer.Argument(help="Name, or several with commas.")],
) -> None:
    """Remove users."""
    admin = desk_of(ctx).admin()
    for name in split([names]):
        admin.remove_user(name)
        out(f'User "{line(name)}" has been deleted')


app.command("del", hidden=True)(rm)
app.command("list", hidden=True)(ls)


def split(parts: Sequence[str] | None) -> list[str]:
    """Comma lists, in one flag or several."""
    return [word.strip() for part in parts or () for word in part.split(",") if word.strip()]


def _added(name: str, roles: list[str], logins: list[str]) -> str:
    name = line(name)
    have = f"roles {','.join(roles)}" + (f" and logins {','.join(logins)}" if logins else "")
    return (
        f'User "{name}" has been created with {line(have)}.\n\n'
        "This version has no invite links: they come with the proxy's web pages. To give the "
        "user certificates, run:\n\n"
        f"> tctl auth sign --user={name} --format=openssh --out={name}\n"
    )
