"""What scenarios share in a pytest run: the process that forks daemons."""

from collections.abc import Iterator

import pytest

from tests.faults.warm import Warm


@pytest.fixture(scope="session")
def warm() -> Iterator[Warm]:
    with Warm() as made:
        yield made
