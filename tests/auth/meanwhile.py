"""What another thread, or another auth server, does between two steps of a desk."""

from collections.abc import Callable
from typing import Any

import pytest

from teleport_lite.store.protocols import Store


def after_reading(
    patch: pytest.MonkeyPatch, store: Store, read: str, act: Callable[[], object]
) -> None:
    """Whoever calls `store.read(...)` next gets the answer of before `act`, after it."""
    original = getattr(store, read)

    def slow(*args: Any, **words: Any) -> Any:
        patch.setattr(store, read, original)
        answer = original(*args, **words)
        act()
        return answer

    patch.setattr(store, read, slow)


def before_writing(patch: pytest.MonkeyPatch, store: Store, act: Callable[[], object]) -> None:
    """Whoever writes next has decided on what, and `act` comes first."""
    original = store.write

    def slow(change: Callable[[Any], Any]) -> Any:
        patch.setattr(store, "write", original)
        act()
        return original(change)

    patch.setattr(store, "write", slow)
