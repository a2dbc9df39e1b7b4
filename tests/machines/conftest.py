"""Machines that tests share: made when first asked for, one world for each distribution."""

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.machines.images import IMAGES, chosen, image
from tests.machines.machine import Machine, refusal, running
from tests.machines.site import FIRST, Authority, Releases, published
from tests.machines.wires import Street
from tests.machines.world import Cluster, World

MINUTES = 15 * 60


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first of them may have to wait for debootstrap."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(MINUTES))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """When a test fails, what the machines have to say is part of the report."""
    report = yield
    if report.failed and Path(__file__).parent in item.path.parents:
        report.sections += [
            (f"journal of {each.name}", each.journal(lines=60)) for each in running()
        ]
    return report


@pytest.fixture(scope="session", params=chosen())
def distribution(request: pytest.FixtureRequest) -> str:
    if why := refusal():
        pytest.skip(f"no machines here: {why}")
    return str(request.param)


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of all workers of a run."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if own.name.startswith("popen-") else own


@pytest.fixture(scope="session")
def releases(distribution: str, shared: Path) -> Releases:
    return Releases(shared, IMAGES[distribution].python)


@pytest.fixture(scope="session")
def world(
    distribution: str, releases: Releases, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    root = tmp_path_factory.mktemp(distribution)
    releases.offer(root / "www", FIRST)
    authority, www = Authority(root / "ca"), root / "www"
    with Street() as street, published(street, authority, www):
        yield World(street=street, image=image(distribution), authority=authority, www=www)


@pytest.fixture(scope="session")
def cluster(world: World) -> Iterator[Cluster]:
    with world.machine("tele") as tele:
        yield Cluster(tele, world.authority)


@pytest.fixture(scope="session")
def node(world: World, cluster: Cluster) -> Iterator[Machine]:
    """node1, as the user guides leave it. Tests share it, and leave it running."""
    with world.machine("node1") as node:
        cluster.add(node)
        yield node
