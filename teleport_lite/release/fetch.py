"""Files of a release from an HTTPS server: one request each, under limits of size and time.

    BASE/latest                                 "v1.2.3\n"
    BASE/1.2.3/SHA256SUMS, SHA256SUMS.sig       what the release holds, and who vouches for it
    BASE/1.2.3/teleport-lite-1.2.3.pyz

A proxy has that below /webapi/releases, and says which version its cluster wants at
/v1/webapi/automaticupgrades/channel/<name>/version (text, "v1.2.3" or "none") and /critical.
"""

import hashlib
import http.client
import io
import os
import re
import select
import shutil
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from teleport_lite import __version__
from teleport_lite.ambient import Clock, SystemClock
from teleport_lite.errors import Malformed, NotFound, Unavailable
from teleport_lite.net.dial import dial, split_address
from teleport_lite.net.problems import plain
from teleport_lite.release.sums import MAX_SUMS, SIGNATURE, SUMS, program_name
from teleport_lite.release.version import Version

RELEASES = "/webapi/releases"
_CHANNEL = "/v1/webapi/automaticupgrades/channel"
MAX_TEXT = 256  # a version or a word; an error page of some other server is longer
MAX_SIGNATURE = 8 * 1024
MAX_FILE = 256 << 20  # ours has 41 MB
CONNECT = 15.0  # seconds
# Seconds for a small answer, and for the file: 41 MB in half an hour is a slow mobile line.
SMALL, LARGE = 30.0, 1800.0
STALL = 60.0  # seconds without a byte
# Beside the file itself: its copy in place, and the unpacked tree, which does not grow with it.
ROOM_TIMES, ROOM_MORE = 2, 160 << 20
_CHUNK = 1 << 18
# Like default or stable/cloud; no part of it can begin with a dot.
_NAME = re.compile(r"(?!.{65})[0-9A-Za-z][0-9A-Za-z._-]*(/[0-9A-Za-z][0-9A-Za-z._-]*)*")
_BASE = re.compile(r"https://([^/\s?#@]+)((?:/[0-9A-Za-z._~-]+)*)/?")

Progress = Callable[[int, int], None]  # bytes so far, and of the whole; 0 if nobody knows


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a channel says. `version` None: that nothing is wanted."""

    version: Version | None
    critical: bool


@dataclass(slots=True)
class Origin:
    """A server to fetch from. `address` is host:port, `path` is where BASE is on it."""

    address: str
    path: str = RELEASES
    clock: Clock = field(default_factory=SystemClock)
    verified: bool = True  # as far as it was asked yet

    @classmethod
    def of(cls, base: str) -> "Origin":
        """Of `https://host[:port]/a/path`. Raises Malformed."""
        found = _BASE.fullmatch(base)
        if found is None or re.search(r"/\.\.?(/|$)", base):
            raise Malformed(
                f"{base[:80]!a} is not the address of releases",
                hint="teleport-lite upgrade --base=https://downloads.example.com/teleport-lite",
            )
        host = found[1] if re.search(r":\d{1,5}$", found[1]) else f"{found[1]}:443"
        return cls(host, found[2])

    # --- what it says

    def wanted(self, channel: str) -> Wanted:
        """What the cluster of this proxy wants. Raises NotFound for a channel it has not."""
        if not _NAME.fullmatch(channel):
            raise Malformed(f"{channel[:64]!a} is not the name of a channel, like default")
        said = self._text(f"{_CHANNEL}/{channel}/version")
        version = None if said in ("", "none") else Version.parse(said)
        critical = self._text(f"{_CHANNEL}/{channel}/critical") in ("yes", "true")
        return Wanted(version, critical)

    def latest(self) -> Wanted:
        """The newest that is published."""
        return Wanted(Version.parse(self._text(f"{self.path}/latest")), critical=False)

    def sums(self, version: Version) -> tuple[bytes, bytes]:
        """SHA256SUMS and its signature, as they are. Nothing is believed yet."""
        where = f"{self.path}/{version}"
        return (
            self._get(f"{where}/{SUMS}", MAX_SUMS),
            self._get(f"{where}/{SIGNATURE}", MAX_SIGNATURE),
        )

    def _text(self, path: str) -> str:
        return self._get(path, MAX_TEXT).decode("ascii", "replace").strip()

    # --- how it is asked

    def program(self, version: Version, expected: str, to: Path, progress: Progress) -> None:
        """The file, to `to`, which must not be there. It is whole and has the digest, or is gone.

        Raises Malformed for any other digest or too many bytes, Unavailable for no room.
        """
        answer = self._ask(f"{self.path}/{version}/{program_name(str(version))}", LARGE)
        with answer:
            size = answer.length or 0
            if size > MAX_FILE:
                raise Malformed(
                    f"{self.address} has a file of {size} bytes, the most is {MAX_FILE}"
                )
            _check_room(to.parent, size)
            try:
                self._save(answer, expected, to, size, progress)
            except BaseException:
                to.unlink(missing_ok=True)
                raise

    def _save(
        self,
        answer: http.client.HTTPResponse,
        expected: str,
        to: Path,
        size: int,
        progress: Progress,
    ) -> None:
        digest, count = hashlib.sha256(), 0
        with to.open("xb") as file:
            while chunk := self._read(answer, _CHUNK):
                count += len(chunk)
                if count > MAX_FILE:
                    raise Malformed(f"{self.address} sends more than {MAX_FILE} bytes")
                digest.update(chunk)
                file.write(chunk)
                progress(count, size)
            file.flush()
            os.fchmod(file.fileno(), 0o755)
            os.fsync(file.fileno())
        if digest.hexdigest() != expected:
            cut = f" ({count} of {size} bytes came)" if count < size else ""
            raise Malformed(
                f"what {self.address} sends is not the file that {SUMS} lists{cut}",
                hint="teleport-lite upgrade",
            )

    def _get(self, path: str, limit: int) -> bytes:
        with self._ask(path, SMALL) as answer:
            raw = b""
            while len(raw) <= limit and (more := self._read(answer, limit + 1 - len(raw))):
                raw += more
        if len(raw) > limit:
            raise Malformed(f"{self.address}{path} is longer than {limit} bytes")
        if answer.length:
            raise Unavailable(f"{self.address}{path} was cut off", hint="teleport-lite upgrade")
        return raw

    def _ask(self, path: str, patience: float) -> http.client.HTTPResponse:
        """Raises NotFound for 404, Unavailable for any other status but 200."""
        end = self.clock.monotonic() + patience
        wire = self._wire()
        timed = _Timed(wire, self.clock, end)
        try:
            wire.sendall(_request(path, self.address).encode())
            answer = http.client.HTTPResponse(timed, method="GET")  # type: ignore[arg-type]  # all it uses of a socket is makefile
            answer.begin()
        except (OSError, http.client.HTTPException) as why:
            timed.close()
            raise self._broken(why) from why
        if answer.status == http.client.OK:
            return answer
        answer.close()
        if answer.status == http.client.NOT_FOUND:
            raise NotFound(f"{self.address} has no {path}", hint="teleport-lite upgrade --check")
        raise Unavailable(f"{self.address}{path}: status {answer.status}")

    def _read(self, answer: http.client.HTTPResponse, most: int) -> bytes:
        try:
            return answer.read(most)
        except (OSError, http.client.HTTPException) as why:
            raise self._broken(why) from why

    def _wire(self) -> ssl.SSLSocket:
        """TLS, by a certificate that this system trusts, or by any.

        The second is no gap. A cluster often serves its proxy by a certificate of its own, and
        a proxy is not trusted with our code anyhow: a key that this build carries must have
        signed the list with the digest of the file and the version in its name, and a version
        below ours is not taken. What somebody on the way can do is to name a newer release than
        the cluster wants, or to keep one from us, and a proxy could do that with any certificate.
        """
        if self.verified:
            try:
                return self._handshake(ssl.create_default_context())
            except ssl.SSLCertVerificationError:
                self.verified = False
            except (OSError, ValueError) as why:
                raise self._broken(why) from why
        unverified = ssl.create_default_context()
        unverified.check_hostname = False
        unverified.verify_mode = ssl.CERT_NONE
        try:
            return self._handshake(unverified)
        except (OSError, ValueError) as why:
            raise self._broken(why) from why

    def _handshake(self, context: ssl.SSLContext) -> ssl.SSLSocket:
        host, _ = split_address(self.address)
        context.set_alpn_protocols(["http/1.1"])
        end = self.clock.monotonic() + CONNECT
        wire = context.wrap_socket(
            dial(self.address, timeout=CONNECT),
            server_hostname=host,
            do_handshake_on_connect=False,
        )
        try:
            wire.setblocking(False)
            while not self._shaken(wire, _left(self.clock, end)):
                pass
            wire.settimeout(CONNECT)
        except BaseException:
            wire.close()
            raise
        return wire

    def _shaken(self, wire: ssl.SSLSocket, left: float) -> bool:
        """Whether the handshake is done; else waits for what it needs next, `left` s at most."""
        try:
            wire.do_handshake()
        except ssl.SSLWantReadError:
            select.select([wire], [], [], left)
        except ssl.SSLWantWriteError:
            select.select([], [wire], [], left)
        else:
            return True
        return False

    def _broken(self, why: Exception) -> Unavailable:
        if isinstance(why, TimeoutError):
            told = "it is too slow"
        else:
            told = plain(str(getattr(why, "reason", None) or why or type(why).__name__))[:200]
        host, port = split_address(self.address)
        return Unavailable(
            f"{self.address} did not send what was asked for ({told})",
            hint=f"curl -kI https://{host}:{port}/",
        )


def _request(path: str, host: str) -> str:
    lines = (
        f"GET {path} HTTP/1.1",
        f"Host: {host}",
        "Connection: close",
        "Accept-Encoding: identity",
        f"User-Agent: teleport-lite/{__version__}",
    )
    return "\r\n".join(lines) + "\r\n\r\n"


class _Timed(io.RawIOBase):
    """A connection that is read until a moment, however slowly the bytes come. Stands in for the
    socket, and is the file made of it: http.client wants no more of one."""

    def __init__(self, wire: ssl.SSLSocket, clock: Clock, end: float) -> None:
        self._wire, self._clock, self._end = wire, clock, end

    def makefile(self, _: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._wire.settimeout(min(_left(self._clock, self._end), STALL))
        return self._wire.recv_into(buffer)

    def close(self) -> None:
        self._wire.close()
        super().close()


def _left(clock: Clock, end: float) -> float:
    """Seconds until then. Raises TimeoutError if there are none."""
    left = end - clock.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _check_room(directory: Path, size: int) -> None:
    """Before the first byte: a full disk is bad news for everything else on the host, too."""
    needed = size * ROOM_TIMES + ROOM_MORE
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise Unavailable(
            f"{directory} has room for {free >> 20} MiB, and {needed >> 20} MiB are needed",
            hint=f"df -h {directory}",
        )
