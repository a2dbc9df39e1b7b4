"""Where a visitor lives: the account is that of the moment in which it is held."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from teleport_lite.model.user import Options
from teleport_lite.node.account import find_account
from teleport_lite.node.gate import Welcome
from teleport_lite.node.lodging import Lodging
from teleport_lite.node.settings import Settings
from teleport_lite.pki.visitor import Visitor
from teleport_lite.testing.fakes import FakeClock
from tests.node.house import ME


def test_an_account_that_was_made_anew_meanwhile_is_not_taken_for_the_old_one(
    tmp_path: Path,
) -> None:
    """Its uid may be somebody else's by now."""
    now = find_account(ME, datetime.now(UTC))
    visitor = cast(Visitor, SimpleNamespace(login=ME))
    welcome = Welcome(
        visitor=visitor, by="access", account=replace(now, uid=54321, gid=54321), options=Options()
    )
    lodging = Lodging(
        welcome,
        host=cast(Any, None),
        peer=("192.0.2.7", 4000),
        local=("192.0.2.1", 3022),
        settings=Settings(data_dir=tmp_path),
        clock=FakeClock(datetime.now(UTC)),
        note=lambda _text: None,
    )
    assert lodging._account() == now
