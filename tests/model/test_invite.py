"""Links that let a person set a password."""

from datetime import UTC, datetime, timedelta

from teleport_lite.model.invite import LIVES, Invite, InviteKind
from teleport_lite.secret import Secret

T0 = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
INVITE = Invite(
    name="0123456789abcdef" * 4,
    token=Secret("s3cret-token"),
    user="alice",
    kind=InviteKind.INVITE,
    expires_at=T0,
    created_at=T0 - timedelta(hours=1),
)


def test_it_works_until_the_moment_it_expires() -> None:
    assert not INVITE.expired(T0 - timedelta(microseconds=1))
    assert INVITE.expired(T0)


def test_what_it_is_called_in_the_trail_lets_nobody_in() -> None:
    assert INVITE.id == "0123456789abcdef"
    assert "s3cret" not in repr(INVITE)


def test_every_kind_has_a_usual_life_and_a_longest_one() -> None:
    assert set(LIVES) == set(InviteKind)
    assert all(timedelta() < usual <= longest for usual, longest in LIVES.values())
