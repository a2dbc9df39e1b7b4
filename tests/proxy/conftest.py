"""A node and a jump host in front of it, for the tests that do not need their own."""

from collections.abc import Iterator

import pytest

from tests.node.house import House, running
from tests.proxy.jump_house import JumpHouse, jumping


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with running(tmp_path_factory.mktemp("house")) as house:
        yield house


@pytest.fixture(scope="module")
def jump(house: House, tmp_path_factory: pytest.TempPathFactory) -> Iterator[JumpHouse]:
    with jumping(tmp_path_factory.mktemp("jump"), house) as jump:
        yield jump
