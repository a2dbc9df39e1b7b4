"""tctl status."""

from typing import Annotated

import typer

from teleport_lite.cli.show import Format, emit, line, pairs, stamp
from teleport_lite.cli.tctl.desk import desk_of
from teleport_lite.client.facts import Facts


def status(
    ctx: typer.Context,
    format: Annotated[Format, typer.Option(help="Form of the answer.")] = Format.TEXT,
) -> None:
    """Show the cluster's name, version, CAs and CA pin."""
    found = desk_of(ctx).admin().status()
    emit(found.plain, format, lambda: _text(found))


def _text(found: Facts) -> str:
    rows = [("Cluster", found.text("cluster")), ("Version", found.text("version"))]
    for ca in found.each("cas"):
        rows.append((f"{ca.text('type')} CA", _standing(ca)))
    rows += _trouble(found)
    rows += _other_life(found)
    rows += _auth_servers(found)
    rows += _others(found)
    rows += [("CA pin", pin) for pin in found.texts("ca_pins")]
    return pairs(rows)


def _standing(ca: Facts) -> str:
    """An older auth does not tell of rotations that run."""
    if "rotation" in ca.plain and ca.one("rotation").text("phase") != "standby":
        from teleport_lite.cli.tctl.rotation_words import in_progress

        return in_progress(ca.one("rotation"))
    rotated = ca.moment("last_rotated")
    return "never updated" if rotated is None else f"rotated {stamp(rotated)}"


def _trouble(found: Facts) -> list[tuple[str, str]]:
    """Only if there is some. An older auth does not say."""
    trouble = found.text("store") if "store" in found.plain else ""
    return [("Store", f"read-only: {line(trouble)}")] if trouble else []


def _other_life(found: Facts) -> list[tuple[str, str]]:
    """Only if there is one. An older auth does not say."""
    if found.plain.get("other_life") is None:
        return []
    other = found.one("other_life")
    count, last = other.number("hosts"), other.moment("last")
    hosts = "1 host was" if count == 1 else f"{count} hosts were"
    since = f", the last at {stamp(last)}" if last is not None else ""
    return [
        ("Warning", f"{hosts} told by another life of this cluster{since}"),
        (
            "",
            f"life {', '.join(map(line, other.texts('lives')))}; this one is "
            f"{line(found.one('life').text('id'))}",
        ),
        ("", "a second auth server runs on a copy of the store: docs/backup.md"),
    ]


def _auth_servers(found: Facts) -> list[tuple[str, str]]:
    """If there is more than one. An older auth does not say."""
    servers = found.each("auth_servers") if "auth_servers" in found.plain else []
    if len(servers) < 2:
        return []
    return [("Auth server", _auth_server(each)) for each in servers]


def _auth_server(found: Facts) -> str:
    state, seen = found.text("state"), found.moment("last_seen")
    since = f" since {stamp(seen)}" if state != "online" and seen is not None else ""
    return f"{line(found.text('hostname'))} {line(found.text('address'))} {state}{since}"


def _others(found: Facts) -> list[tuple[str, str]]:
    """Hosts of another version than auth. An older auth does not say."""
    if "host_versions" not in found.plain:
        return []
    versions = found.one("host_versions")
    counts = {name: versions.number(name) for name in versions.plain}
    others = {name: count for name, count in counts.items() if name != found.text("version")}
    if not others:
        return []
    names = ", ".join(f"{line(name) or '?'} ({count})" for name, count in sorted(others.items()))
    return [("Hosts", f"{sum(others.values())} of {sum(counts.values())} run {names}")]
