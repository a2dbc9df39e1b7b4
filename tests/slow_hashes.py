"""What is slow on purpose is computed once for the same input, in the process of the tests.

Nothing is made cheaper and nothing comes out different: passwords, tokens and salts of most tests
are the same (their chance is predictable), so that hundreds of tests ask for the same dozen hashes,
40 to 300 ms each. Programs that tests start compute theirs.
"""

import functools
import hashlib
from collections.abc import Callable
from typing import Any

import argon2.low_level


def remember() -> None:
    hashlib.scrypt = _once(hashlib.scrypt)
    hashlib.pbkdf2_hmac = _once(hashlib.pbkdf2_hmac)
    argon2.low_level.hash_secret_raw = _once(argon2.low_level.hash_secret_raw)


def _once(slow: Callable[..., bytes]) -> Callable[..., bytes]:
    known = functools.lru_cache(maxsize=4096)(slow)

    @functools.wraps(slow)
    def hashed(*args: Any, **words: Any) -> bytes:
        try:
            return known(*args, **words)
        except TypeError:  # an argument that no dictionary takes, a bytearray say
            return slow(*args, **words)

    return hashed
