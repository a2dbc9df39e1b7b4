"""What auth shows of itself is what was there last, whoever is quicker."""

import threading
from pathlib import Path

import pytest

from teleport_lite.daemon.showing import Showing
from teleport_lite.net.accept import Shown
from teleport_lite.proto.stream import RootWord
from tests.daemon.test_auth_role import a_role


def test_who_has_begun_earlier_and_is_done_later_takes_nothing_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trust has changed, and while a thread looks at it a new certificate arrives in another."""
    role, used = a_role(tmp_path), list[Shown]()
    showing = Showing(role.desks, used.append)
    showing.show(role.enlist(("Auth",), "auth-1", ()))
    slow = threading.Thread(target=showing.show)
    asked, goes_on, words = threading.Event(), threading.Event(), role.desks.trust.words

    def held() -> list[RootWord]:
        found = words()
        if threading.current_thread() is slow:
            asked.set()
            assert goes_on.wait(60)
        return found

    monkeypatch.setattr(role.desks.trust, "words", held)
    slow.start()
    assert asked.wait(60)
    after = role.enlist(("Auth",), "auth-1", ())
    showing.show(after)
    goes_on.set()
    slow.join(60)
    assert not slow.is_alive()
    first, second = used
    assert first.certificate != second.certificate
    assert showing.identity == after
    showing.show()
    assert used[2].certificate == second.certificate
    role.store.close()


def test_nothing_is_shown_before_there_is_an_identity(tmp_path: Path) -> None:
    role, used = a_role(tmp_path), list[Shown]()
    showing = Showing(role.desks, used.append)
    showing.show()
    assert (used, showing.identity) == ([], None)
    role.store.close()
