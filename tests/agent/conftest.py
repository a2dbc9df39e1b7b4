"""One auth server for a module; tests name their hosts and tokens apart."""

from collections.abc import Iterator

import pytest

from tests.agent.rig import Auth


@pytest.fixture
def auth() -> Iterator[Auth]:
    with Auth() as running:
        yield running
