"""The auth server that these tests talk to."""

from collections.abc import Iterator

import pytest

from tests.agent.rig import Auth


@pytest.fixture
def auth() -> Iterator[Auth]:
    with Auth() as running:
        yield running
