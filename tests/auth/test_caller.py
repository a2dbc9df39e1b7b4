"""Who is asking, in the words of the trail, and by which CA."""

import pytest

from teleport_lite.auth.caller import Caller, Kind
from teleport_lite.model.authority import CaType


@pytest.mark.parametrize("kind", Kind)
def test_people_and_bots_are_of_the_user_ca_and_all_others_of_the_host_ca(kind: Kind) -> None:
    caller = Caller(kind=kind, name="x", address="192.0.2.7")
    of_users = kind in (Kind.USER, Kind.BOT)
    assert caller.ca_type is (CaType.USER if of_users else CaType.HOST)


def test_a_label_is_kind_and_name_as_far_as_there_is_one() -> None:
    assert Caller(kind=Kind.HOST, name="web-1", address="192.0.2.7").label == "host:web-1"
    assert Caller(kind=Kind.ANYONE, name="", address="192.0.2.7").label == "anyone"
