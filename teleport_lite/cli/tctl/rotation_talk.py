"""tctl auth rotate with a person at the terminal: which CA, what will happen, and on to each step.

Nothing is changed before the person has said yes.
"""

import typer

from teleport_lite.cli.show import out, put
from teleport_lite.cli.tctl.auth_rotate import begins, check_grace
from teleport_lite.cli.tctl.desk import Desk
from teleport_lite.cli.tctl.rotation_watch import Watch
from teleport_lite.cli.tctl.rotation_words import (
    AHEAD,
    ALL,
    ROLLBACK,
    STANDBY,
    TYPES,
    plan,
    progress,
    running,
    told,
)
from teleport_lite.cli.tctl.users import split
from teleport_lite.client.facts import Facts

NO, YES, BACK = "no", "yes", ROLLBACK


class Talk:
    def __init__(self, desk: Desk, types: list[str], grace: str, *, manual: bool) -> None:
        self._desk, self._types, self._grace, self._manual = desk, types, grace, manual
        self._begun = False

    def run(self) -> None:
        at_once = check_grace(self._grace)
        types = self._types or self._which()
        found = [
            each
            for each in self._desk.admin().rotations()
            if ALL in types or each.text("type") in types
        ]
        under_way = [each for each in found if running(each)]
        if not under_way:
            out(plan(found, grace=self._grace, manual=self._manual, at_once=at_once))
            if ask("Begin?", YES, NO) != YES:
                return put("Nothing was changed.\n")
            self._begun = True
            under_way = self._step(types, "")
        if any(each.text("mode") == "automatic" for each in under_way):
            return self._look_on(under_way)
        while under_way := self._followed([each.text("type") for each in under_way]):
            phases = {each.text("phase") for each in under_way}
            if len(phases) > 1:
                return put("The CAs are in different phases: name one with --type\n")
            wanted = self._next(phases.pop())
            if not wanted:
                return put("To go on: tctl auth rotate --interactive\n")
            under_way = self._step([each.text("type") for each in under_way], wanted)
        return None

    def _look_on(self, under_way: list[Facts]) -> None:
        """It needs nobody, and takes its time."""
        if self._begun:
            return put("To look on: tctl auth rotate --watch\n")
        out("\n".join(progress(each, self._desk.clock.now()) for each in under_way))
        if ask("It goes on by itself. Roll it back?", YES, NO) == YES:
            self._step([each.text("type") for each in under_way], ROLLBACK)
        return None

    def _which(self) -> list[str]:
        there_are = (*TYPES, ALL)
        while True:
            types = split([prompt(f"Which CA is to get new keys ({', '.join(there_are)})? ")])
            if types and set(types) <= set(there_are):
                return types

    def _followed(self, types: list[str]) -> list[Facts]:
        """Those that wait for a person when nothing else happens any more."""
        return [each for each in Watch(self._desk, types).run() if running(each)]

    def _next(self, phase: str) -> str:
        """ "" to leave it for now."""
        ahead = AHEAD.get(phase, STANDBY)
        if phase == ROLLBACK:
            return ahead if ask(f"All hosts are back. On to {ahead}?", YES, NO) == YES else ""
        answer = ask(f"All hosts have caught up. On to {ahead}?", YES, NO, BACK)
        return {YES: ahead, BACK: ROLLBACK}.get(answer, "")

    def _step(self, types: list[str], phase: str) -> list[Facts]:
        found = self._desk.admin().rotate(
            types,
            phase=phase,
            manual=self._manual or not begins(phase),
            grace_period=self._grace,
        )
        out(told(found, begins(phase)))
        return [each for each in found if running(each)]


def ask(question: str, *answers: str) -> str:
    """One of them, or its first letter. Nothing is the second."""
    while True:
        said = prompt(f"{question} [{'/'.join(answers)}] ").lower() or answers[1]
        for each in answers:
            if said in (each, each[0]):
                return each


def prompt(question: str) -> str:
    """Raises typer.Abort where nobody can answer."""
    put(question)
    try:
        return input().strip()
    except EOFError as why:
        put("\n")
        raise typer.Abort from why
