"""Text that must not be seen: tokens, passwords, private keys."""

import hmac


class Secret:
    """Prints as `<secret>` wherever it lands: logs, tracebacks, f-strings, JSON errors.

    Reading it takes an explicit `reveal()`, so a search for that word finds every use.
    Comparison takes constant time for texts of equal length.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def tail(self) -> str:
        """The last four characters, enough for a person to tell two tokens apart in a log.

        Short secrets show nothing: four of eight characters would be half the secret.
        """
        return f"...{self._text[-4:]}" if len(self._text) >= 16 else "..."

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._text.encode(), other._text.encode())

    def __hash__(self) -> int:
        return hash(self._text)

    def __bool__(self) -> bool:
        return bool(self._text)

    def __repr__(self) -> str:
        return "<secret>"

    __str__ = __repr__

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a Secret does not pickle")
