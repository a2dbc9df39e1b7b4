"""What holds for all tests."""

import gc
import signal
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests import slow_hashes
from tests.postgres import Postgres, shared

slow_hashes.remember()

# Whoever starts us in the background may ignore ^C, and so would every program that we start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A machine with more to do is no finding: neither 0.2 s for an example nor a slow start is.
settings.register_profile("shared", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared")


def pytest_collection_finish() -> None:
    """Thousands of tests stay until the end: the collector need not look at them each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A server that all tests of this run share: make a database of your own in it."""
    base = tmp_path_factory.getbasetemp()
    with shared(base.parent if base.name.startswith("popen-") else base) as server:
        yield server


@pytest.fixture
def database(postgres: Postgres) -> Iterator[str]:
    """The conn_string of an empty database."""
    made = postgres.database()
    yield made
    postgres.drop(made)
