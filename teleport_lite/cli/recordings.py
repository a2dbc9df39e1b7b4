"""What tsh and tctl have in common about recordings: which are meant, and how they are listed."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from teleport_lite.cli.show import stamp, table
from teleport_lite.client.facts import Facts
from teleport_lite.errors import Malformed
from teleport_lite.model.duration import parse_duration, show_duration
from teleport_lite.model.names import UUID, checked
from teleport_lite.model.size import show_size
from teleport_lite.proto.resource import moment, read_moment

EXAMPLE = "d52527f9-b260-41d0-bb5a-e23b0cfe0f8f"
# What is listed if nothing was said.
USUAL = timedelta(hours=24)


def span(now: datetime, since: str, until: str, last: str) -> tuple[str, str]:
    """From when and until when, as auth takes it; "" is no bound.

    A day is a day in UTC, and as an end it includes itself. Raises Malformed.
    """
    if last and (since or until):
        raise Malformed("--last and --from-utc or --to-utc exclude each other")
    if last:
        since = _at(now, -parse_duration(last, "--last"))
    elif not since and not until:
        since = moment(now - USUAL) or ""
    return _bound(since, "--from-utc", timedelta()), _bound(until, "--to-utc", timedelta(days=1))


def session_id(text: str) -> str:
    """Raises Malformed."""
    return checked(UUID, text.lower(), "session id", example=EXAMPLE)


def recordings_table(found: Sequence[Facts]) -> str:
    headers = ("ID", "User", "Login", "Node", "Started", "Length", "Size", "State")
    return table(headers, [_row(each) for each in found])


def _row(each: Facts) -> tuple[str, ...]:
    started, ended = each.moment("started"), each.moment("ended")
    return (
        each.text("sid"),
        each.text("user"),
        each.text("login"),
        each.text("host_name") or each.text("host_id"),
        stamp(started) if started else "",
        show_duration(ended - started) if started and ended else "",
        show_size(each.number("size")),
        "complete" if each.flag("complete") else "incomplete",
    )


def _bound(text: str, flag: str, whole_day: timedelta) -> str:
    if not text:
        return ""
    try:
        day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        return moment(read_moment(text, flag)) or ""
    return _at(day, whole_day)


def _at(when: datetime, more: timedelta) -> str:
    """Before all calendars, and after them, there is no bound."""
    try:
        return moment(when + more) or ""
    except OverflowError:
        return ""
