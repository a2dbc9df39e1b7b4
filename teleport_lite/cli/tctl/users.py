"""tctl users: add, ls, update, reset, unlock, rm."""

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated

import typer

from teleport_lite.cli.lazy import PLAIN
from teleport_lite.cli.show import Format, emit, expiry, line, out, table
from teleport_lite.cli.tctl.desk import desk_of
from teleport_lite.client.facts import Facts
from teleport_lite.model.duration import show_duration

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
    ttl: Annotated[str, typer.Option(help="How long the link works, up to 48h.")] = "1h",
    format: Annotated[Format, typer.Option(help="Form of the answer.")] = Format.TEXT,
) -> None:
    """Add a user, and show the link with which the user sets a password."""
    if not split(roles):
        ctx.fail("missing option '--roles', like --roles=access")
    wanted = split([*(logins or ()), allowed])
    made = desk_of(ctx).admin().add_user(name, roles=split(roles), logins=wanted, ttl=ttl)
    emit(made.plain, format, lambda: _added(name, made.one("invite")))


@app.command()
def ls(
    ctx: typer.Context,
    format: Annotated[Format, typer.Option(help="Form of the answer.")] = Format.TEXT,
) -> None:
    """List the users."""
    desk = desk_of(ctx)
    found = desk.admin().list_users()
    now = desk.clock.now()
    rows = [
        (each.text("name"), ",".join(each.texts("roles")), _password(each, now)) for each in found
    ]
    emit(
        [each.plain for each in found],
        format,
        lambda: table(("User", "Roles", "Password"), rows) if rows else "No users found",
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
def reset(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the user.")],
    ttl: Annotated[str, typer.Option(help="How long the link works, up to 24h.")] = "8h",
    format: Annotated[Format, typer.Option(help="Form of the answer.")] = Format.TEXT,
) -> None:
    """Show a link with which a user sets a new password. The old one works until then."""
    made = desk_of(ctx).admin().reset_user(name, ttl=ttl)
    emit(made.plain, format, lambda: _reset(name, made.one("invite")))


@app.command()
def unlock(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the user.")],
) -> None:
    """Let a user try again who was locked out after wrong passwords."""
    was = desk_of(ctx).admin().unlock_user(name)
    said = "may log in again" if was else "was not locked out"
    out(f'User "{line(name)}" {said}')


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


def _added(name: str, invite: Facts) -> str:
    head = f'User "{line(name)}" has been created but requires a password.'
    return _link(head, "complete user setup", name, invite)


def _reset(name: str, invite: Facts) -> str:
    head = f'User "{line(name)}" has been reset.'
    return _link(head, "complete password reset", name, invite)


def _link(head: str, purpose: str, name: str, invite: Facts) -> str:
    life = _words(timedelta(seconds=invite.number("ttl_seconds")))
    url, proxy = line(invite.text("url")), line(invite.text("proxy"))
    if url:
        return (
            f"{head} Share this URL with the user to {purpose}, link is valid for {life}:\n"
            f"{url}\n\n"
            f"NOTE: Make sure {proxy} points at a Teleport proxy which users can access.\n"
        )
    return (
        f"{head} No proxy is running yet, and the page to set it is on a proxy. Once there is "
        f"one, this path on it serves the user to {purpose}, for {life} from now:\n"
        f"{line(invite.text('path'))}\n\n"
        "To see a whole link then, which takes the place of this one, run:\n\n"
        f"> tctl users reset {line(name)}\n"
    )


def _words(span: timedelta) -> str:
    """1h for 1h0m0s."""
    return re.sub(r"(?<=h)0m$", "", re.sub(r"(?<=m)0s$", "", show_duration(span)))


def _password(user: Facts, now: datetime) -> str:
    """One cell: is it set, is there a link to set it, is the user locked out."""
    parts = ["set" if user.flag("password") else "not set"]
    until = user.moment("invited_until")
    if until is not None:
        parts.append(f"link until {expiry(until, now)}")
    locked = user.number("locked_seconds")
    if locked:
        parts.append(f"locked out for {_words(timedelta(seconds=locked))}")
    return ", ".join(parts)
