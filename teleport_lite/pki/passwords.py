"""Stretching passwords: argon2id (RFC 9106), on the side of whoever knows the password.

`tsh` does it before it proves the password, and auth when one is set. What comes out is used as
the password of SCRAM (proto/login.py): a stolen proof or verifier has this between itself and
each guess.
"""

import unicodedata
from typing import Protocol

from teleport_lite.errors import Malformed, Unavailable
from teleport_lite.model.password import Stretching
from teleport_lite.secret import Secret

# The second recommended option of RFC 9106 §4: 64 MiB, three passes, four lanes.
TIME, MEMORY, LANES = 3, 64 * 1024, 4
# Bounds for parameters of a server. Less is somebody who wants to guess cheaply; more is
# somebody who wants to see this machine swap.
MAX_TIME, MAX_MEMORY, MAX_LANES = 16, 1024 * 1024, 16
_SALT = range(16, 65)  # bytes; RFC 9106 §3.1 recommends 16
_KEY = 32


class Parameters(Protocol):
    """`model.password.Stretching`, and `proto.login.Stretch`, which says the same on the wire."""

    @property
    def salt(self) -> str: ...
    @property
    def time(self) -> int: ...
    @property
    def memory(self) -> int: ...
    @property
    def lanes(self) -> int: ...


def new_stretch(salt: bytes) -> Stretching:
    """What passwords that are set today are stretched with."""
    return Stretching(salt=salt.hex(), time=TIME, memory=MEMORY, lanes=LANES)


def stretch(password: Secret, by: Parameters) -> Secret:
    """The key, in hexadecimal. Takes 64 MiB and some tenth of a second.

    Raises Malformed for parameters out of bounds: weaker than ours, or more than a gigabyte;
    Unavailable when the memory is not there.
    """
    salt = _checked(by)
    # Only here: whoever needs no password should not wait for its library.
    from argon2.exceptions import HashingError
    from argon2.low_level import Type, hash_secret_raw

    try:
        key = hash_secret_raw(
            normal(password).reveal().encode("utf-8", "surrogatepass"),
            salt,
            time_cost=by.time,
            memory_cost=by.memory,
            parallelism=by.lanes,
            hash_len=_KEY,
            type=Type.ID,
        )
    except HashingError as why:
        raise Unavailable(
            f"the password could not be stretched, that takes {by.memory // 1024} MiB of memory",
            log=repr(why),
        ) from why
    return Secret(key.hex())


def normal(password: Secret) -> Secret:
    """The same characters are the same password on every keyboard (RFC 8265 §4.2, NFC)."""
    return Secret(unicodedata.normalize("NFC", password.reveal()))


def _checked(by: Parameters) -> bytes:
    ours = f"expected at least {TIME}, {MEMORY} KiB and at most {MAX_TIME}, {MAX_MEMORY} KiB"
    if not (
        TIME <= by.time <= MAX_TIME
        and MEMORY <= by.memory <= MAX_MEMORY
        and 1 <= by.lanes <= MAX_LANES
    ):
        raise Malformed(
            f"the server asks for argon2id with time {by.time}, memory {by.memory} KiB and "
            f"{by.lanes} lanes, {ours}"
        )
    try:
        salt = bytes.fromhex(by.salt)
    except ValueError:
        salt = b""
    if len(salt) not in _SALT:
        raise Malformed("the server sent no salt for the password")
    return salt
