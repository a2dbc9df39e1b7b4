"""What sftp does to files, read from what OpenSSH's sftp-server logs (`-e -l VERBOSE`).

Each message is one write of at most 1 KiB to a pipe of packets (pipe(2), O_DIRECT), so that a name
with line feeds in it can not pass for messages of its own. At this level every failure follows
the request that failed. Names longer than a message are cut by sftp-server; then so are ours.

The broker reads, as the login user: a user who meddles with their own sftp-server can leave their
own doings out of the trail, as they could have by running a program of theirs.
"""

import fcntl
import os
import re
import select
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from teleport_lite.node.wire import FileOp

FLAGS = b" -e -l VERBOSE"
# pipe(7): each message takes a page, whatever its size; the default is sixteen of them.
_PIPE_SIZE = 1 << 20
_F_SETPIPE_SZ = 1031
_MAX_MESSAGE = 8192
# Of names, in characters as they are shown.
_MOST_NAME = 2048
_MOST_OPEN = 256
# Messages of one process that are read before others get their turn.
_BURST = 64
_STATUS = b"sent status "
_CUT = re.compile(rb'(open|close|opendir|remove|mkdir|rmdir|rename|set)[a-z -]* "(.*)', re.DOTALL)
_OPS = {
    "open": rb'open "(.*)" flags ([A-Z,]*) mode 0[0-7]*',
    "close": rb'(?:forced )?close "(.*)" bytes read (\d{1,19}) written (\d{1,19})',
    "opendir": rb'opendir "(.*)"',
    "remove": rb'remove name "(.*)"',
    "mkdir": rb'mkdir name "(.*)" mode 0[0-7]*',
    "rmdir": rb'rmdir name "(.*)"',
    "rename": rb'(?:posix-)?rename old "(.*)" new "(.*)"',
    "symlink": rb'symlink old "(.*)" new "(.*)"',
    "link": rb'(?:hard)?link old "(.*)" new "(.*)"',
    "setstat": rb'set "(.*)" (?:size|mode|modtime|owner) .*',
}
_PATTERNS = {action: re.compile(pattern, re.DOTALL) for action, pattern in _OPS.items()}
_FAILED = re.compile(
    rb'process_(?:read|write): (?:read|write) "(.*)": ([A-Za-z /,]{1,64})', re.DOTALL
)
_ESCAPE = re.compile(rb"\\(\\|[0-7]{3})")


class Messages:
    """The log of one sftp-server, a message after the other."""

    def __init__(self, sid: str) -> None:
        self._sid = sid
        self._pending: FileOp | None = None
        self._flags: dict[bytes, str] = {}  # of files that are open
        self._errors: dict[bytes, str] = {}

    def feed(self, message: bytes) -> tuple[list[FileOp], bool]:
        """What is known to be done now, and whether this was a message of sftp-server's at all."""
        if not message.endswith(b"\r\n"):
            return [], False
        line = message[:-2]
        if line.startswith(_STATUS):
            return self._failed(line.removeprefix(_STATUS)), True
        done = self.flush()
        if found := _FAILED.fullmatch(line):
            self._remember(self._errors, found[1], found[2].decode())
            return done, True
        self._pending = self._read(line)
        return done, True

    def flush(self) -> list[FileOp]:
        """Nothing was said against the last one. That a file was opened is told when it is closed,
        with what was read and written."""
        done, self._pending = self._pending, None
        return [] if done is None or done.action == "open" else [done]

    @property
    def waits(self) -> bool:
        return self._pending is not None and self._pending.action != "open"

    def _failed(self, status: bytes) -> list[FileOp]:
        op, self._pending = self._pending, None
        if op is None:
            return []  # of something that is not told, as a look at a file
        error = status[:64].decode("ascii", "replace")
        return [_changed(op, error=error)]

    def _read(self, line: bytes) -> FileOp | None:
        for action, pattern in _PATTERNS.items():
            if found := pattern.fullmatch(line):
                return self._op(action, found.groups())
        cut = _CUT.fullmatch(line)
        if cut is None:
            return None
        action = "setstat" if cut[1] == b"set" else cut[1].decode()
        return FileOp(sid=self._sid, action=action, path=shown(cut[2]))

    def _op(self, action: str, parts: tuple[bytes, ...]) -> FileOp:
        op = FileOp(sid=self._sid, action=action, path=shown(parts[0]))
        if action == "open":
            self._remember(self._flags, parts[0], parts[1].decode())
            return _changed(op, flags=parts[1].decode())
        if action == "close":
            return _changed(
                op,
                read=int(parts[1]),
                written=int(parts[2]),
                flags=self._flags.pop(parts[0], ""),
                error=self._errors.pop(parts[0], ""),
            )
        return _changed(op, target=shown(parts[1])) if len(parts) > 1 else op

    @staticmethod
    def _remember(where: dict[bytes, str], path: bytes, what: str) -> None:
        if len(where) < _MOST_OPEN:
            where[path] = what


def shown(raw: bytes) -> str:
    r"""A name as sftp-server writes it (vis(3), VIS_OCTAL), made safe to look at: bytes that are
    not printable in UTF-8 stand as `\xff`, a backslash as two. Different names look different."""
    plain = _ESCAPE.sub(lambda found: _unescaped(found[1]), raw)
    text = plain.replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")
    return "".join(each if each.isprintable() else _in_bytes(each) for each in text)[:_MOST_NAME]


def _in_bytes(letter: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in letter.encode())


def _unescaped(code: bytes) -> bytes:
    return code if code == b"\\" else bytes([int(code, 8) & 0xFF])


def _changed(op: FileOp, **more: str | int) -> FileOp:
    fields = {name: getattr(op, name) for name in op.__struct_fields__}
    return FileOp(**{**fields, **more})


@dataclass(slots=True)
class _Log:
    messages: Messages
    log: int  # from sftp-server
    relay: int  # to the client's standard error, for what the shell says
    open: bool = field(default=True)


class FileLogs:
    """Those of all sftp-servers of a connection. `report` is given what they do, once."""

    def __init__(self, report: Callable[[FileOp], None]) -> None:
        self._report = report
        self._logs: dict[str, _Log] = {}

    @staticmethod
    def pipe() -> tuple[int, int]:
        """To read from, and what sftp-server is to have as its standard error."""
        ours, theirs = os.pipe2(os.O_DIRECT | os.O_CLOEXEC)
        with suppress(OSError):  # the user's quota of pipe pages is used up; slower, not wrong
            fcntl.fcntl(ours, _F_SETPIPE_SZ, _PIPE_SIZE)
        os.set_blocking(ours, False)
        return ours, theirs

    def add(self, sid: str, log: int, relay: int) -> None:
        os.set_blocking(relay, False)
        self._logs[sid] = _Log(Messages(sid), log, relay)

    def wants(self) -> Iterator[tuple[int, int]]:
        for log in self._logs.values():
            if log.open:
                yield log.log, select.POLLIN

    def turn(self, ready: set[int]) -> None:
        """Those descriptors are readable. Whoever has had nothing to say for a while has done
        what it said last."""
        for log in self._logs.values():
            if log.open and log.log in ready:
                self._take(log, _BURST)
            elif log.messages.waits:
                self._tell(log.messages.flush())

    def patience(self) -> float | None:
        """Seconds after which `turn` has something to do."""
        return 0.5 if any(log.messages.waits for log in self._logs.values()) else None

    def end(self, sid: str) -> None:
        """Its process has ended: what it has said is there."""
        log = self._logs.pop(sid, None)
        if log is None:
            return
        while log.open and self._take(log, _BURST):
            pass
        self._tell(log.messages.flush())
        for fd in (log.log, log.relay):
            os.close(fd)

    def _take(self, log: _Log, most: int) -> bool:
        """False when there is no more for now."""
        for _ in range(most):
            try:
                message = os.read(log.log, _MAX_MESSAGE)
            except BlockingIOError:
                return False
            if not message:
                log.open = False
                return False
            done, ours = log.messages.feed(message)
            self._tell(done)
            if not ours:
                with suppress(OSError):  # a client that does not read misses it
                    os.write(log.relay, message)
        return True

    def _tell(self, done: list[FileOp]) -> None:
        for op in done:
            self._report(op)
