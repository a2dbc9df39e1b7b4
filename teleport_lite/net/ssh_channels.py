"""The connection protocol (RFC 4254): which message is for which channel, and who opens them.

No sockets and nothing of paramiko: payloads come in by `deliver` and go out by `send`. Every
message is read strictly; what can not be read ends the connection with `Malformed`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from struct import Struct

from teleport_lite.errors import Malformed
from teleport_lite.net import ssh_policy as policy
from teleport_lite.net.ssh_channel import (
    MSG_CLOSE,
    MSG_DATA,
    MSG_EOF,
    MSG_EXTENDED_DATA,
    MSG_REQUEST,
    MSG_WINDOW_ADJUST,
    Channel,
)
from teleport_lite.pki.wire import Reader, text

# RFC 4254 §9.
MSG_GLOBAL_REQUEST, MSG_REQUEST_SUCCESS, MSG_REQUEST_FAILURE = range(80, 83)
MSG_OPEN, MSG_OPEN_CONFIRMATION, MSG_OPEN_FAILURE = range(90, 93)
MSG_SUCCESS, MSG_FAILURE = 99, 100
# RFC 4254 §5.1.
PROHIBITED, CONNECT_FAILED, UNKNOWN_TYPE, RESOURCE_SHORTAGE = range(1, 5)

Done = Callable[[Channel | None, str], None]
# Clients show the reason as one line.
_MOST_REASON = 1000
_DATA_HEAD = Struct(">II")


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """A channel that the client wants, and waits for. `rest` is what its kind adds (§7.2, ...)."""

    kind: str
    remote: int
    window: int
    largest: int
    rest: Reader


class Channels:
    """All channels of a connection. A subclass sends, and says what may be opened."""

    # The client knows OpenSSH's extensions.
    openssh = False

    def __init__(self) -> None:
        self._table: dict[int, Channel] = {}
        self._asking: set[Asked] = set()
        self._opening: dict[int, tuple[Channel, Done]] = {}
        self._next = 0
        # Numbers of channels to whom something has happened, and those with views to keep.
        self._stirred: set[int] = set()
        self._fed: set[Channel] = set()
        self._readers: dict[int, Callable[[Reader], None]] = {
            MSG_GLOBAL_REQUEST: self._heard_global_request,
            # Answers to ours, of which none asks for more than an answer.
            MSG_REQUEST_SUCCESS: lambda _reader: None,
            MSG_REQUEST_FAILURE: lambda _reader: None,
            MSG_OPEN: self._heard_open,
            MSG_OPEN_CONFIRMATION: self._heard_confirmation,
            MSG_OPEN_FAILURE: self._heard_failure,
            MSG_WINDOW_ADJUST: self._heard_adjust,
            MSG_EXTENDED_DATA: self._heard_extended,
            MSG_EOF: self._heard_eof,
            MSG_CLOSE: self._heard_close,
            MSG_REQUEST: self._heard_request,
            # We ask for no reply.
            MSG_SUCCESS: lambda _reader: None,
            MSG_FAILURE: lambda _reader: None,
        }

    # --- what a subclass does

    def pump(self, channel: Channel, fd: int, most: int) -> int:
        """From a descriptor to the client; see `Channel.send_from`."""
        raise NotImplementedError

    def send(self, payload: bytes) -> None:
        """To the client; never waits."""
        raise NotImplementedError

    def over(self, channel: Channel) -> None:
        """Nothing more can be sent on it."""

    def _open_asked(self, asked: Asked) -> None:
        """Answer, now or later, by `confirm_open` or `refuse_open`."""
        raise NotImplementedError

    def _channel_request(self, channel: Channel, kind: bytes, reader: Reader) -> bool:
        """Do it, and say whether it worked."""
        raise NotImplementedError

    def _global_request(self, kind: str, reader: Reader) -> tuple[bool, bytes]:
        """Do it; whether it worked, and what the reply adds (RFC 4254 §4, §7.1)."""
        raise NotImplementedError

    # --- opening

    def hold_open(self, reader: Reader) -> Asked:
        """What CHANNEL_OPEN asks for. It counts as a channel until it is answered."""
        kind = shown_name(reader.text())
        asked = Asked(kind, reader.number(4), reader.number(4), reader.number(4), reader)
        self._asking.add(asked)
        return asked

    def confirm_open(self, asked: Asked, extra: bytes = b"") -> Channel:
        self._asking.remove(asked)
        channel = self._new(asked.kind)
        channel.opened(asked.remote, asked.window, asked.largest)
        self._table[channel.number] = channel
        numbers = (asked.remote, channel.number, channel.in_window, policy.DATA)
        self.send(bytes([MSG_OPEN_CONFIRMATION]) + _numbers(*numbers) + extra)
        return channel

    def refuse_open(self, asked: Asked, code: int, reason: str) -> None:
        self._asking.remove(asked)
        said = text(reason[:_MOST_REASON].encode("utf-8", "replace")) + text(b"en")
        self.send(bytes([MSG_OPEN_FAILURE]) + _numbers(asked.remote, code) + said)

    def open_channel(self, kind: str, extra: bytes, done: Done) -> None:
        """Ask the client for one. `done` gets it, or None and the client's reason, in one line of
        printable ASCII; at once if there are too many."""
        if self._count() >= policy.MAX_CHANNELS:
            done(None, "too many channels")
            return
        channel = self._new(kind)
        self._opening[channel.number] = channel, done
        numbers = _numbers(channel.number, channel.in_window, policy.DATA)
        self.send(bytes([MSG_OPEN]) + text(kind.encode()) + numbers + extra)

    def live(self, kind: str = "") -> int:
        """How many channels are open, of that kind or in all; those asked for by the client too."""
        open_now = [one.kind for one in self._table.values() if not one.closed]
        kinds = [*open_now, *(one.kind for one in self._asking)]
        return sum(not kind or one == kind for one in kinds)

    def _count(self) -> int:
        """Those that the client has not confirmed to be closed count, or it could pile them up."""
        return len(self._table) + len(self._asking) + len(self._opening)

    def _new(self, kind: str) -> Channel:
        # Numbers are not used again: what others still say about the old one can not mean the new.
        few = self._count() < policy.FEW_CHANNELS
        window = policy.WINDOW if few else policy.SMALL_WINDOW
        channel = Channel(self._next, kind, self, window)
        channel.openssh = self.openssh
        self._next += 1
        return channel

    def _heard_open(self, reader: Reader) -> None:
        asked = self.hold_open(reader)
        if self._count() > policy.MAX_CHANNELS:
            self.refuse_open(asked, RESOURCE_SHORTAGE, "too many channels")
        elif asked.largest < policy.LEAST_DATA:
            self.refuse_open(asked, RESOURCE_SHORTAGE, "packets are too small")
        else:
            self._open_asked(asked)

    def _heard_confirmation(self, reader: Reader) -> None:
        channel, done = self._answered(reader)
        remote, window, largest = (reader.number(4) for _ in range(3))
        if largest < policy.LEAST_DATA:
            raise Malformed("client takes no packets on a channel")
        channel.opened(remote, window, largest)
        self._table[channel.number] = channel
        done(channel, "")

    def _heard_failure(self, reader: Reader) -> None:
        _, done = self._answered(reader)
        code, said = reader.number(4), reader.text()
        reader.text()  # language
        done(None, ascii(said[:160].decode("utf-8", "replace"))[1:-1] or f"refused, code {code}")

    def _answered(self, reader: Reader) -> tuple[Channel, Done]:
        opening = self._opening.pop(reader.number(4), None)
        if opening is None:
            raise Malformed("client answers for a channel that nobody asked for")
        return opening

    def give_up(self) -> None:
        """The connection is over: nobody will answer any more."""
        opening, self._opening = self._opening, {}
        for _, done in opening.values():
            done(None, "the connection has ended")

    # --- messages

    def deliver(self, kind: int, body: memoryview) -> None:
        """A message of the connection protocol, without its first byte. Raises Malformed.

        `body` holds until `keep`, so data is passed on without being copied.
        """
        if kind == MSG_DATA:
            self._heard_data(body)
            return
        try:
            self._readers[kind](Reader(bytes(body)))
        except ValueError as why:
            raise Malformed(f"message {kind} can not be read: {why}") from None

    def keep(self) -> None:
        """What nobody has taken of the views is copied: they end now."""
        for channel in self._fed:
            channel.keep()
        self._fed.clear()

    def stir(self, number: int) -> None:
        """Something has happened that whoever moves the bytes of this channel should see."""
        self._stirred.add(number)

    def _channel(self, reader: Reader) -> Channel | None:
        """None: it has been closed meanwhile, and there is nobody to tell."""
        return self._open(reader.number(4))

    def _open(self, number: int) -> Channel | None:
        channel = self._table.get(number)
        self._stirred.add(number)
        if channel is None and (number >= self._next or number in self._opening):
            raise Malformed("client speaks on a channel that is not open")
        return channel

    def _heard_adjust(self, reader: Reader) -> None:
        channel, count = self._channel(reader), reader.number(4)
        reader.end()
        if channel is not None:
            channel.widen(count)

    def _heard_data(self, body: memoryview) -> None:
        if len(body) < _DATA_HEAD.size:
            raise Malformed("message 94 can not be read: truncated")
        number, size = _DATA_HEAD.unpack_from(body)
        if _DATA_HEAD.size + size != len(body):
            raise Malformed("message 94 can not be read: it does not end with its data")
        channel = self._open(number)
        if channel is not None:
            channel.hear(body[_DATA_HEAD.size :])
            self._fed.add(channel)

    def _heard_extended(self, reader: Reader) -> None:
        channel = self._channel(reader)
        reader.number(4)
        data = reader.text()
        reader.end()
        if channel is not None:
            channel.hear_extended(data)

    def _heard_eof(self, reader: Reader) -> None:
        channel = self._channel(reader)
        reader.end()
        if channel is not None:
            channel.eof_received = True

    def _heard_close(self, reader: Reader) -> None:
        channel = self._channel(reader)
        reader.end()
        if channel is not None:
            del self._table[channel.number]
            channel.hear_close()

    def _heard_request(self, reader: Reader) -> None:
        channel, kind, wants_reply = self._channel(reader), reader.text(), reader.take(1) != b"\0"
        if channel is None or channel.closed:
            return
        ok = self._channel_request(channel, kind, reader)
        if wants_reply and not channel.closed:
            self.send(bytes([MSG_SUCCESS if ok else MSG_FAILURE]) + _numbers(channel.remote))

    def _heard_global_request(self, reader: Reader) -> None:
        kind, wants_reply = shown_name(reader.text()), reader.take(1) != b"\0"
        ok, extra = self._global_request(kind, reader)
        if wants_reply:
            self.send(bytes([MSG_REQUEST_SUCCESS]) + extra if ok else bytes([MSG_REQUEST_FAILURE]))


def shown_name(raw: bytes) -> str:
    """RFC 4251 §6: names are printable ASCII of at most 64 characters; ours may be seen in logs."""
    return ascii(raw[:64].decode("ascii", "replace"))[1:-1]


def _numbers(*values: int) -> bytes:
    return b"".join(value.to_bytes(4, "big") for value in values)
