"""What a rotation of the CAs asks of a joined process, and what it says to one that missed it.

Auth tells a mark for each type of CA (model/rotation.py). A host whose certificates were made at
another mark renews, soon but not in step with all others. Who was away until the old CA was
retired can prove nothing any more: only a token brings it back, and it is told so.
"""

import ssl
from collections.abc import Mapping

from teleport_lite.agent.identity import Identity
from teleport_lite.ambient import Chance
from teleport_lite.errors import Denied, Error
from teleport_lite.model.authority import CaType
from teleport_lite.model.system_role import BOT
from teleport_lite.net.way import Way, introduction
from teleport_lite.pki.pin import issuer_pin, pin_of
from teleport_lite.proto.join import Bundle, RetiredPin
from teleport_lite.proto.retired import retired, when
from teleport_lite.proto.stream import Knowledge

# Seconds from a new mark to the renewal, drawn for each host: a phase may end when the last one
# has renewed, and a thousand must not ask in the same moment.
SPREAD = (0.0, 3.0)
# After a renewal that did not bring the mark of now: auth has gone on meanwhile.
AGAIN = (2.0, 6.0)
# Seconds between tries of a host that was left behind. Nothing changes before somebody comes.
LEFT_BEHIND = (60.0, 300.0)
# Of the error's `log`, for who has to know it from others.
BEHIND = "left behind by a rotation"
_JOIN_AGAIN = "join again with a new token: tctl tokens add"


def marks_of(known: Knowledge) -> dict[str, str]:
    """By type of CA, of those that were ever rotated."""
    return {word.type: word.mark for word in known.rotations}


def in_use(marks: Mapping[str, str], identity: Identity) -> dict[str, str]:
    """Those of `marks` that a process has caught up with which trusts by them. Of the host CA it
    is the certificates that count."""
    rotated = dict(marks)
    if rotated.get(CaType.HOST, "") != identity.rotation:
        rotated.pop(CaType.HOST, None)
    return rotated


class Catching:
    """When to renew because of a rotation. Times are monotonic seconds."""

    def __init__(self, chance: Chance) -> None:
        self._chance = chance
        self._mark = ""  # of the host CA, as last heard
        self._at: float | None = None

    @property
    def at(self) -> float | None:
        """None: nothing to catch up with."""
        return self._at

    def heard(self, known: Knowledge, mine: str, now: float) -> None:
        """`mine` is the mark of our certificates. The same word again does not draw again."""
        mark = marks_of(known).get(CaType.HOST, "")
        if mark == mine:
            self._at = None
        elif mark != self._mark or self._at is None:
            self._at = now + self._chance.uniform(*SPREAD)
        self._mark = mark

    def renewed(self, mine: str, now: float) -> None:
        self._at = None if mine == self._mark else now + self._chance.uniform(*AGAIN)

    def due(self, now: float) -> bool:
        return self._at is not None and now >= self._at


def same_signer(one: Identity, other: Identity) -> bool:
    """Are the certificates they go out with of the same CA?"""
    cas = dict.fromkeys((*one.host_cas, *other.host_cas))
    return issuer_pin(one.tls_cert, cas) == issuer_pin(other.tls_cert, cas)


def left_behind(identity: Identity, address: str, *, timeout: float) -> Denied | None:
    """Does auth not know us, or we not auth, because of a rotation that we have missed?

    Asked when TLS has failed. The answer is anybody's word, so it decides nothing but what people
    are told, and whether a join with a token asks for our UUID.
    """
    try:
        said = introduction(Way(address, identity.cluster), timeout=timeout)
    except (Error, ssl.SSLError):
        return None
    return missed(said, identity)


def missed(said: Bundle, identity: Identity) -> Denied | None:
    """The same, from what was said."""
    if said.cluster != identity.cluster:
        return None
    try:
        now = {pin_of(ca) for ca in said.host_cas}
        ours = {pin_of(ca) for ca in identity.host_cas}
        mine = issuer_pin(identity.tls_cert, [*identity.host_cas, *said.host_cas])
    except Error:
        return None
    of_user_ca = BOT in identity.roles
    if mine in now or (of_user_ca and now & ours):
        return None if now <= ours else _missing_the_new()
    gone = retired(said, (mine,) if mine else ours)
    if gone is None and not mine and now & ours:
        gone = next(iter(said.retired), None)  # we were told of the new one before we were cut off
    return _missed_it(gone) if gone else None


def _missing_the_new() -> Denied:
    return Denied(
        "the host CA is being rotated, and this host was away when it began",
        hint=_JOIN_AGAIN,
        log=BEHIND,
    )


def _missed_it(gone: RetiredPin) -> Denied:
    return Denied(
        f"the host CA was rotated on {when(gone)} while this host was away",
        hint=_JOIN_AGAIN,
        log=BEHIND,
    )
