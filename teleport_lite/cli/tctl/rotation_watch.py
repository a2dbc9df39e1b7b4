"""tctl auth rotate --watch: who has caught up, until there is nothing to wait for."""

import select
import sys
from datetime import timedelta

from teleport_lite.cli.exit import warn
from teleport_lite.cli.show import Format, emit, put
from teleport_lite.cli.tctl.desk import Desk
from teleport_lite.cli.tctl.rotation_words import following, progress, running
from teleport_lite.client.facts import Facts
from teleport_lite.errors import Unavailable

EVERY = 1.0
# Auth may restart while we look on.
PATIENCE = timedelta(minutes=2)


class Watch:
    """Shows a line for each CA that is rotated, and shows it anew when it changes."""

    def __init__(self, desk: Desk, types: list[str], *, quiet: bool = False) -> None:
        """`types` to look at; all if there are none."""
        self._quiet = quiet
        self._desk, self._types = desk, types
        self._shown: list[str] = []
        self._silent_since = desk.clock.now()
        self._warned = False

    def run(self) -> list[Facts]:
        """Until all rotations are over, or wait for a person. Where they stand then."""
        seen: set[str] = set()
        while True:
            found = self._ask()
            if found is not None:
                seen |= {each.text("type") for each in found if running(each)}
                self._show([each for each in found if each.text("type") in seen])
                if all(self._rests(each) for each in found):
                    return [each for each in found if each.text("type") in seen]
            select.select([], [], [], EVERY)

    def _ask(self) -> list[Facts] | None:
        """None while auth is away. Raises Unavailable when it is for too long."""
        now = self._desk.clock.now()
        try:
            found = self._desk.admin().rotations()
        except Unavailable as why:
            if now - self._silent_since > PATIENCE:
                raise
            if not self._warned:
                self._warned = True
                warn(f"{why.message}, trying again")
            return None
        self._silent_since, self._warned = now, False
        return [each for each in found if not self._types or each.text("type") in self._types]

    def _rests(self, found: Facts) -> bool:
        """Nothing will change by itself."""
        hosts = found.one("hosts")
        is_done = hosts.number("present") == hosts.number("updated")
        return not running(found) or (found.text("mode") == "manual" and is_done)

    def _show(self, found: list[Facts]) -> None:
        lines = [progress(each, self._desk.clock.now()) for each in found]
        if lines == self._shown or self._quiet:
            return
        if sys.stdout.isatty():
            back = f"\033[{len(self._shown)}F\033[J" if self._shown else ""
            put(back + "".join(f"{each}\n" for each in lines))
        else:
            put("".join(f"{each}\n" for each in lines if each not in self._shown))
        self._shown = lines


def watch(desk: Desk, types: list[str], format: Format = Format.TEXT) -> None:
    """In a form for programs it is one answer, at the end."""
    found = Watch(desk, types, quiet=format is not Format.TEXT).run()
    if format is not Format.TEXT:
        emit([each.plain for each in found], format, lambda: "")
    elif not found:
        put("No CA is being rotated.\n")
    elif by_hand := following(found):
        put(f"All hosts have caught up. To go on, run:\n\n{by_hand}")
