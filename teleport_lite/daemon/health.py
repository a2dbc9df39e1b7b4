"""How this process is, for `/readyz`, `/metrics` and systemd's status line."""

from enum import IntEnum
from threading import Lock


class State(IntEnum):
    """The numbers of Teleport's `process_state` metric."""

    OK = 0
    RECOVERING = 1
    DEGRADED = 2
    STARTING = 3


# readyz: 200 when everything is well, 400 on the way there, 503 when something is broken.
STATUS = {State.OK: 200, State.RECOVERING: 400, State.STARTING: 400, State.DEGRADED: 503}
_WORST_FIRST = (State.DEGRADED, State.RECOVERING, State.STARTING, State.OK)


class Health:
    """The state of each component by name. From any thread."""

    def __init__(self) -> None:
        self._guard = Lock()  # guards _states
        self._states: dict[str, tuple[State, str]] = {}

    def set(self, component: str, state: State, words: str = "") -> None:
        with self._guard:
            self._states[component] = (state, words)

    def overall(self) -> tuple[State, dict[str, str]]:
        """Ok only when every component is; nothing at all is starting."""
        with self._guard:
            states = dict(self._states)
        shown = {name: words or state.name.lower() for name, (state, words) in states.items()}
        found = {state for state, _ in states.values()} or {State.STARTING}
        return next(state for state in _WORST_FIRST if state in found), shown
