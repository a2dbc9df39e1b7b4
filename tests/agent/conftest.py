"""The auth server that these tests talk to."""

from collections.abc import Iterator

import pytest

from teleport_lite.agent import enlist, link, renew
from tests.agent.rig import Auth


@pytest.fixture
def auth() -> Iterator[Auth]:
    with Auth() as running:
        yield running


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with much to do is no auth that is away."""
    for module in (enlist, link, renew):
        monkeypatch.setattr(module, "PROBE_TIMEOUT", 60.0)
