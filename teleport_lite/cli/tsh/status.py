"""tsh status."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from teleport_lite.cli.show import Format, emit, line, out
from teleport_lite.cli.tsh.desk import Desk, desk_of
from teleport_lite.client import profile
from teleport_lite.client.papers import Papers, read_papers
from teleport_lite.client.profile import Profile
from teleport_lite.errors import Malformed
from teleport_lite.model.duration import show_duration

# As scripts know it: not "not signed in", which the others end with.
NOT_LOGGED_IN = 1
# The longest name, a colon and some air.
_WIDTH = 20


def status(
    ctx: typer.Context,
    verbose: Annotated[
        bool, typer.Option("--verbose/--no-verbose", "-v", help="Traits and addresses too.")
    ] = False,
    format: Annotated[
        Format, typer.Option("--format", "-f", help="Form of the answer.")
    ] = Format.TEXT,
) -> None:
    """Show who you are logged in as, where, and until when. Asks nobody."""
    desk = desk_of(ctx)
    if desk.identity:
        found = desk.person(even_expired=True)
        facts = _facts(found.papers, found.cluster, found.proxy)
        return emit({"active": facts, "profiles": []}, format, lambda: _text(desk, facts, ">", 1))
    active, others = _profiles(desk)
    if active is None and not others:
        emit({"active": None, "profiles": []}, format, lambda: "Not logged in.")
        raise typer.Exit(NOT_LOGGED_IN)
    plain = {"active": active, "profiles": others}
    emit(plain, format, lambda: _all(desk, active, others, verbose))
    if active is None or _over(desk, active):
        raise typer.Exit(NOT_LOGGED_IN)
    return None


def show_current(desk: Desk) -> None:
    active, _ = _profiles(desk)
    out(_all(desk, active, [], False))


def _profiles(desk: Desk) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    """The one in use, and the others."""
    current = profile.current(desk.home)
    found = {each.proxy: _of(desk.home, each) for each in profile.every(desk.home)}
    active = found.pop(current.proxy, None) if current else None
    return active, [each for each in found.values() if each is not None]


def _of(home: Path, chosen: Profile) -> dict[str, Any] | None:
    cert = profile.certificate(home, chosen)
    if not cert:
        return None
    try:
        papers = read_papers(cert, str(profile.Files(home, chosen).ssh_cert))
    except Malformed:
        return None
    return _facts(papers, chosen.cluster, chosen.web_proxy_addr)


def _facts(papers: Papers, cluster: str, proxy: str) -> dict[str, Any]:
    return {
        "profile_url": f"https://{proxy}" if proxy else "",
        "username": papers.user,
        "cluster": cluster,
        "roles": list(papers.roles),
        "traits": {name: list(values) for name, values in papers.traits.items()},
        "logins": list(papers.logins),
        "kubernetes_enabled": False,
        "valid_until": papers.expires.isoformat().replace("+00:00", "Z"),
        "extensions": list(papers.extensions),
    }


def _all(
    desk: Desk, active: dict[str, Any] | None, others: list[dict[str, Any]], verbose: bool
) -> str:
    texts = [_text(desk, active, ">", verbose)] if active else []
    texts += [_text(desk, each, " ", verbose) for each in others]
    return "\n".join(texts)


def _text(desk: Desk, facts: Mapping[str, Any], mark: str, verbose: bool | int) -> str:
    rows = [
        ("Profile URL", facts["profile_url"]),
        ("Logged in as", facts["username"]),
        ("Cluster", facts["cluster"]),
        ("Roles", ", ".join(facts["roles"])),
        ("Logins", ", ".join(facts["logins"])),
    ]
    if verbose:
        traits = (f"{name}: {', '.join(each)}" for name, each in facts["traits"].items())
        rows.append(("Traits", "; ".join(traits)))
    rows += [
        ("Valid until", _valid(desk, facts)),
        ("Extensions", ", ".join(facts["extensions"])),
    ]
    lines = [f"  {f'{name}:':{_WIDTH}}{line(value)}".rstrip() for name, value in rows if value]
    return mark + lines[0][1:] + "\n" + "".join(f"{each}\n" for each in lines[1:])


def _valid(desk: Desk, facts: Mapping[str, Any]) -> str:
    until = _until(facts)
    left = until - desk.clock.now()
    how = "[EXPIRED]" if _over(desk, facts) else f"[valid for {show_duration(left)}]"
    return f"{until.astimezone():%Y-%m-%d %H:%M:%S %z %Z} {how}"


def _until(facts: Mapping[str, Any]) -> datetime:
    return datetime.fromisoformat(facts["valid_until"]).astimezone(UTC)


def _over(desk: Desk, facts: Mapping[str, Any]) -> bool:
    return desk.clock.now() >= _until(facts)
