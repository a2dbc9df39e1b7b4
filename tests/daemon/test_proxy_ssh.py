"""What the jump host says of the system it is on."""

import logging
import os

import pytest

from teleport_lite.daemon.proxy_ssh import _look_at_system
from teleport_lite.node import landlock


@pytest.mark.parametrize(("uid", "version", "said"), [(1000, 0, 1), (1000, 4, 0), (0, 0, 0)])
def test_who_can_not_keep_strangers_from_its_files_says_so(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    uid: int,
    version: int,
    said: int,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    monkeypatch.setattr(landlock, "version", lambda: version)
    with caplog.at_level(logging.WARNING):
        _look_at_system()
    assert len(caplog.records) == said
