"""Certificates spoilt at random, shown to OpenSSH's sshd and to our verifier.

    python -m tests.fuzz.against_sshd [--cases 10000] [--seed 0]

What sshd refuses we refuse. A third are put together from odd parts and rightly signed, a third
are right ones with some bytes changed, taken out or put in, and the last third are such, signed
again: the structure is what is at stake, and the signature does not give it away. Exit code 1 if
we let somebody in whom sshd keeps out; the certificate is printed.
"""

import argparse
import random
import sys
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

from teleport_lite.testing.certs import packed, ssh_signature
from tests.pki import forgeries
from tests.pki.forgeries import MATRIX, Case
from tests.pki.sshd import LOGIN, sshd
from tests.pki.test_against_sshd import both, thrown

# A signature of our Ed25519 CA, with its length and the name of the algorithm.
_SIGNATURE = 87
# With the same CAs: their certificates are good for a few minutes.
_ROUND = 1000


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.against_sshd")
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(argv)
    dice, counts = random.Random(asked.seed), Counter[tuple[bool, bool]]()
    for begun in range(0, asked.cases, _ROUND):
        counts += some(dice, min(_ROUND, asked.cases - begun))
    for (mine, theirs), count in sorted(counts.items()):
        print(f"{count:6} we {_word(mine)}, sshd {_word(theirs)}")
    return int(counts[True, False] > 0)


def some(dice: random.Random, cases: int) -> Counter[tuple[bool, bool]]:
    """How often which verdict was given: ours, and sshd's."""
    forgeries.cluster.cache_clear()
    counts = Counter[tuple[bool, bool]]()
    with (
        tempfile.TemporaryDirectory() as scratch,
        sshd(Path(scratch), forgeries.trusted_lines()) as server,
    ):
        for _ in range(cases):
            case = any_case(dice)
            verdict = both(case, server)
            counts[verdict] += 1
            if verdict == (True, False):
                print(f"we let in whom sshd keeps out: {case.algorithm} {case.blob(LOGIN).hex()}")
    return counts


def any_case(dice: random.Random) -> Case:
    kind = dice.randrange(3)
    if kind == 0:
        return thrown(dice)
    right = dice.choice([case for case in MATRIX.values() if case.ours and case.sshd])
    blob = right.blob(LOGIN)
    if kind == 1:
        spoilt = spoil(dice, blob)
    else:
        body = spoil(dice, blob[:-_SIGNATURE])
        spoilt = body + packed(ssh_signature(forgeries.ca(), body))
    return replace(right, make=lambda _: spoilt)


def spoil(dice: random.Random, data: bytes) -> bytes:
    """One to three places where bytes are replaced, taken out, doubled or put in."""
    for _ in range(dice.randint(1, 3)):
        at = dice.randrange(len(data))
        end = min(len(data), at + dice.choice([1, 1, 1, 2, 4, 8, 40]))
        new = dice.choice(
            [
                dice.randbytes(end - at),
                bytes([data[at] ^ 1 << dice.randrange(8)]) + data[at + 1 : end],
                b"",
                data[at:end] * 2,
                data[at:end] + dice.randbytes(dice.randint(1, 4)),
                (dice.choice([0, 1, 2, 255, 1 << 31, (1 << 32) - 1])).to_bytes(4, "big"),
            ]
        )
        data = data[:at] + new + data[end:]
    return data


def _word(verdict: bool) -> str:
    return "let in" if verdict else "refuse"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
