"""An empty prefix with a systemd beside it."""

from pathlib import Path

import pytest

from tests.release.stand_ins import Rig


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path / "rig").make()
