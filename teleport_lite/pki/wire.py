"""The SSH wire format (RFC 4251 §5), read and written strictly.

`paramiko.Message` pads a short read with zeros; this reader raises. Everything it is given
comes from strangers, so nothing is guessed and nothing may be left over.
"""


def text(data: bytes) -> bytes:
    """`data` as an RFC 4251 `string`: four bytes of length, then the bytes."""
    return len(data).to_bytes(4, "big") + data


class Reader:
    """Takes fields off the front of `data`. Every method raises ValueError when it is too short."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def take(self, size: int) -> bytes:
        end = self._at + size
        if end > len(self._data):
            raise ValueError("truncated")
        taken = self._data[self._at : end]
        self._at = end
        return taken

    def number(self, size: int) -> int:
        """An unsigned integer of `size` bytes: 4 for uint32, 8 for uint64."""
        return int.from_bytes(self.take(size), "big")

    def text(self) -> bytes:
        return self.take(self.number(4))

    def mpint(self) -> int:
        """A multiple precision integer that is not negative.

        Zeros in front are forbidden by RFC 4251 §5 and taken by OpenSSH: some clients write them.
        """
        data = self.text()
        if data and data[0] > 0x7F:
            raise ValueError("negative number")
        return int.from_bytes(data, "big")

    def end(self) -> None:
        if self._at != len(self._data):
            raise ValueError("trailing bytes")

    def more(self) -> bool:
        return self._at < len(self._data)


def texts(data: bytes) -> list[bytes]:
    """All the strings that `data` is made of, and nothing else."""
    reader = Reader(data)
    found = []
    while reader.more():
        found.append(reader.text())
    return found


def pairs(data: bytes) -> list[tuple[bytes, bytes]]:
    """Name and data of each option of a certificate (PROTOCOL.certkeys, "Critical options")."""
    reader = Reader(data)
    found = []
    while reader.more():
        found.append((reader.text(), reader.text()))
    return found
