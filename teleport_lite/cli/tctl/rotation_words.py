"""What is said about a rotation: where it stands, what a step brings, what comes next."""

from datetime import datetime

from teleport_lite import __version__
from teleport_lite.cli.show import line, stamp
from teleport_lite.client.facts import Facts

TYPES = ("host", "user", "db", "openssh", "jwt")
ALL = "all"
STANDBY, ROLLBACK = "standby", "rollback"
# Of those who are waited for, so many are named.
NAMED = 3
# What follows by hand; rollback is always told beside it.
AHEAD = {"init": "update_clients", "update_clients": "update_servers", "update_servers": STANDBY}
AHEAD[ROLLBACK] = STANDBY
STEPS = (
    ("init", "everybody learns the new CA, and goes on trusting the old one"),
    ("update_clients", "hosts go out with certificates of the new CA; so do people who log in"),
    ("update_servers", "hosts serve with certificates of the new CA"),
    ("standby", "the old CA is trusted no more"),
)


def running(found: Facts) -> bool:
    return found.text("phase") != STANDBY


def updated(found: Facts) -> str:
    """37 of 40 hosts updated, waiting for web-1 and web-2; "" for a CA that no host knows."""
    hosts = found.one("hosts")
    present, done = hosts.number("present"), hosts.number("updated")
    if not present:
        return ""
    waiting = [_waited_for(each) for each in hosts.each("waiting")]
    said = f"{done} of {present} {'host' if present == 1 else 'hosts'} updated"
    return f"{said}, waiting for {names(waiting, present - done)}" if waiting else said


def _waited_for(host: Facts) -> str:
    """Another version may be why: it may know nothing of rotations."""
    version = line(host.text("version"))
    other = f" (version {version})" if version not in ("", __version__) else ""
    return line(host.text("name")) + other


def names(found: list[str], count: int) -> str:
    """a, b and c; a, b, c and 4 more"""
    shown, more = found[:NAMED], count - NAMED
    if more > 0:
        return f"{', '.join(shown)} and {more} more"
    return " and ".join(filter(None, (", ".join(shown[:-1]), shown[-1])))


def in_progress(found: Facts) -> str:
    """Of `tctl status`: one cell."""
    since, ends = found.moment("phase_since"), found.moment("ends")
    parts = [f"rotating: phase {line(found.text('phase'))}", line(found.text("mode"))]
    if since is not None:
        parts.append(f"since {stamp(since)}")
    if ends is not None:
        parts.append(f"over on {stamp(ends)}")
    return ", ".join((*parts, *filter(None, (updated(found),))))


def progress(found: Facts, now: datetime) -> str:
    """One line of `tctl auth rotate --watch`."""
    type = line(found.text("type"))
    if not running(found):
        when = found.moment("last_rotated")
        return (
            f"{type} CA: standby, {'never rotated' if when is None else f'rotated {stamp(when)}'}"
        )
    said = [f"{type} CA: {line(found.text('phase'))}", updated(found)]
    due = found.moment("due")
    if due is not None and due > now:
        said.append(f"goes on at {stamp(due)} at the earliest")
    return ", ".join(filter(None, said))


def command(types: list[str], phase: str) -> str:
    return f"tctl auth rotate --type={','.join(types)} --phase={phase} --manual"


def following(found: list[Facts]) -> str:
    """What to type when a phase of rotations led by hand is done; "" if there is nothing."""
    by_phase: dict[str, list[str]] = {}
    for each in found:
        if running(each) and each.text("mode") == "manual":
            by_phase.setdefault(AHEAD.get(each.text("phase"), STANDBY), []).append(
                line(each.text("type"))
            )
    return "".join(f"> {command(types, phase)}\n" for phase, types in by_phase.items())


def told(found: list[Facts], begun: bool) -> str:
    """After a step."""
    phases = sorted({each.text("phase") for each in found})
    if begun and STANDBY not in phases:
        head = "Initiated certificate authority rotation."
    else:
        head = f'Updated rotation phase to "{line(",".join(phases))}".'
    lines = [f"{head} To check status use 'tctl status'", ""]
    for each in found:
        lines.append(_standing(each))
        if not running(each):
            lines += _aftermath(each, at_once=begun)
    by_hand = following(found)
    if by_hand:
        lines += ["", "When all hosts have caught up (tctl auth rotate --watch), run:", "", by_hand]
    return "\n".join(lines)


def _standing(found: Facts) -> str:
    type, phase = line(found.text("type")), line(found.text("phase"))
    ends = found.moment("ends")
    over = f", over on {stamp(ends)} when all hosts keep up" if ends is not None else ""
    behind = updated(found)
    return f"{type} CA: {phase}{over}" + (f" ({behind})" if running(found) and behind else "")


def _aftermath(found: Facts, *, at_once: bool) -> list[str]:
    """What the end of a rotation means, for those whom it concerns."""
    type, hosts = found.text("type"), found.one("hosts")
    lines: list[str] = []
    if type == "host":
        lines += [f"CA pin from now on: {line(pin)}" for pin in found.texts("pins")]
    if type == "user":
        lines.append("People whose certificate is of the CA that is gone log in again: tsh login")
    away = [line(each.text("name")) for each in hosts.each("away")]
    if at_once and type == "host":
        lines.append("Every host has to join again with a new token: tctl tokens add")
    elif away and type == "host":
        count = hosts.number("away_count")
        lines.append(f"Away, and to join again with a new token: {names(away, count)}")
    return lines


def plan(found: list[Facts], *, grace: str, manual: bool, at_once: bool) -> str:
    """What is going to happen, before it does."""
    types = [each.text("type") for each in found]
    whose = ", ".join(f"{line(type)} CA" for type in types)
    if at_once:
        lines = [f"New keys for: {whose}. At once: the old ones are trusted no more.", ""]
    else:
        how = "a step for each command of yours" if manual else f"in {grace} altogether"
        lines = [f"New keys for: {whose}, {how}:", ""]
        lines += [f"  {phase:<15} {words}" for phase, words in STEPS]
        lines += ["", "Open sessions, tunnels and connections go on. At the end:", ""]
    if "host" in types:
        offline = max((each.one("hosts").number("offline") for each in found), default=0)
        whom = "every host has" if at_once else f"hosts that are away have ({offline} are, now)"
        lines.append(f"  {whom} to join again with a new token")
        lines.append("  the CA pin of today is refused; tctl status shows the new one")
        lines.append("  known_hosts made by `tctl auth export` has to be made anew")
    if "user" in types:
        lines.append("  people log in again; files of `tctl auth sign` have to be made anew")
    return "\n".join((*lines, ""))
