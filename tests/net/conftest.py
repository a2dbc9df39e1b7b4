"""A parrot behind a server of ours."""

from collections.abc import Iterator

import pytest

from tests.net.parrot import CLUSTER, Parrot
from tests.net.serving import Serving, shown


@pytest.fixture
def parrot() -> Parrot:
    return Parrot()


@pytest.fixture
def serving(parrot: Parrot) -> Iterator[Serving]:
    with Serving(parrot, shown(CLUSTER)) as running:
        yield running
