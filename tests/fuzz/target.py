"""What a fuzz target is, and what holds for every one of them.

A target is a function of bytes. It may raise what it declares and nothing else; it must come
back soon, keep no descriptor open, and not make the process grow.
"""

import contextlib
import gc
import hashlib
import os
import resource
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hypothesis import strategies as st

from teleport_lite.errors import Malformed

CORPUS = Path(__file__).parent / "corpus"
# Processor time for one input; the longest inputs take a few milliseconds.
MOST_SECONDS = 2.0
# What the process may grow by for one input: the longest message there is, some times over.
MOST_GROWTH = 192 << 20
TARGETS: dict[str, "Target"] = {}

Body = Callable[[bytes], object]


class Finding(AssertionError):
    """A promise that did not hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """`parts` are what inputs are put together from; `seeds` are whole ones, as honest peers
    send them. `most` is the longest input worth trying."""

    name: str
    body: Body
    raises: tuple[type[Exception], ...]
    seeds: Callable[[], Sequence[bytes]]
    parts: Callable[[], st.SearchStrategy[bytes]] | None
    most: int

    def check(self, data: bytes) -> None:
        """Raises whatever is wrong: an exception that is not declared, or Finding."""
        before, size, fds = time.process_time(), most_memory(), open_descriptors()
        self._run(data)
        taken, grown = time.process_time() - before, most_memory() - size
        if taken > MOST_SECONDS:
            raise Finding(f"{self.name}: {taken:.1f} s for {len(data)} bytes")
        if grown > MOST_GROWTH:
            raise Finding(f"{self.name}: grew by {grown >> 20} MiB for {len(data)} bytes")
        if open_descriptors() > fds and (left := self._leaks(data)) > 0:
            raise Finding(f"{self.name}: {left} descriptors are left open")

    def _run(self, data: bytes) -> None:
        with contextlib.suppress(self.raises):
            self.body(data)

    def _leaks(self, data: bytes) -> int:
        """Once more: the first time something may have been opened for good, or by others."""
        gc.collect()
        fds = open_descriptors()
        self._run(data)
        gc.collect()
        return open_descriptors() - fds

    def regressions(self) -> list[Path]:
        """Inputs that once found something."""
        return sorted((CORPUS / self.name).glob("*"))

    def strategy(self) -> st.SearchStrategy[bytes]:
        """Honest inputs, honest parts in any order, and both with something wrong."""
        whole = st.sampled_from(list(self.seeds()) or [b""])
        if self.parts is not None:
            some = st.lists(self.parts(), max_size=12).map(b"".join)
            whole = whole | some
        return spoilt(whole).map(lambda data: data[: self.most]) | st.binary(max_size=64)


def target(
    *,
    raises: tuple[type[Exception], ...] = (Malformed,),
    seeds: Callable[[], Sequence[bytes]] = tuple,
    parts: Callable[[], st.SearchStrategy[bytes]] | None = None,
    most: int = 4096,
) -> Callable[[Body], Body]:
    """Files the function under its name."""

    def file(body: Body) -> Body:
        name = body.__name__
        assert name not in TARGETS, name
        TARGETS[name] = Target(
            name=name, body=body, raises=raises, seeds=seeds, parts=parts, most=most
        )
        return body

    return file


def most_memory() -> int:
    """Bytes that this process has had at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def file_name(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


# --- bytes for hypothesis

_ODD = (b"", b"\0", b"\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff", b"\0\0\0\0", b"\r\n", b'"')


@st.composite
def spoilt(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    """Up to four places where some bytes are replaced, doubled, taken out or put in."""
    data = draw(whole)
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        end = min(len(data), at + draw(st.integers(0, 9)))
        inside = st.one_of(
            st.sampled_from(_ODD),
            st.binary(max_size=8),
            st.just(data[at:end] * 2),
            st.just(data[end : end + 1] + data[at:end]),
        )
        data = data[:at] + draw(inside) + data[end:]
    return data


def any_of(parts: Iterable[bytes]) -> st.SearchStrategy[bytes]:
    return spoilt(st.sampled_from(list(parts)))


class Pieces:
    """Takes values off the front of an input; when there is nothing left they are all empty."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def number(self, size: int = 1) -> int:
        return int.from_bytes(self._take(size), "big")

    def text(self) -> bytes:
        """Two bytes of length, and so many bytes."""
        return self._take(self.number(2))

    def rest(self) -> bytes:
        return self._take(len(self._data))

    def _take(self, size: int) -> bytes:
        taken = self._data[self._at : self._at + size]
        self._at += len(taken)
        return taken


def framed(*texts: bytes) -> bytes:
    """What `Pieces.text` takes apart again."""
    return b"".join(len(each).to_bytes(2, "big") + each for each in texts)
