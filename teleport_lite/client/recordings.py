"""Asking auth for recordings, and for sessions that are open now."""

import base64
import binascii
from collections.abc import Iterator
from typing import Any

from teleport_lite.client.admin import Asking
from teleport_lite.client.facts import Facts
from teleport_lite.errors import Malformed

# Of one page of a listing.
PAGE = 1000


class RecordingsClient:
    """Every method raises what the server refused with, Unavailable or Malformed."""

    def __init__(self, transport: Asking) -> None:
        self._transport = transport

    def listing(
        self, *, since: str = "", until: str = "", user: str = "", search: str = "", limit: int
    ) -> list[Facts]:
        """The latest first. Times are RFC 3339; "" is no bound."""
        found: list[Facts] = []
        filters = {"since": since, "until": until, "user": user, "search": search}
        while len(found) < limit:
            size = min(PAGE, limit - len(found))
            after = found[-1].text("sid") if found else ""
            page = self._ask("/v1/recordings/list", **filters, after=after, limit=size).each(
                "recordings"
            )
            found += page[:size]
            if len(page) < size:
                break
        return found

    def pieces(self, sid: str) -> Iterator[tuple[Facts, bytes]]:
        """Some whole lines of the asciicast each, with what is known of the recording."""
        at: int | None = 0
        while at is not None:
            found = self._ask("/v1/recordings/read", sid=sid, at=at)
            try:
                data = base64.b64decode(found.text("data"), validate=True)
            except binascii.Error as why:
                raise Malformed(f"{self._transport.name} sends no recording") from why
            following = None if found.plain.get("next", 0) is None else found.number("next")
            if following is not None and following <= at:  # or a confused server would keep us
                raise Malformed(f"{self._transport.name} repeats parts of the recording")
            at = following
            yield found, data

    def remove(self, sid: str) -> None:
        self._ask("/v1/recordings/remove", sid=sid)

    def sessions(self) -> list[Facts]:
        """Those that are open now and that may be seen, with the `modes` to join each."""
        return self._ask("/v1/sessions/list").each("sessions")

    def join(self, sid: str, mode: str) -> Facts:
        """Where the session is."""
        return self._ask("/v1/sessions/join", sid=sid, mode=mode)

    def _ask(self, path: str, **fields: Any) -> Facts:
        return Facts(self._transport.ask(path, fields), f"{self._transport.name} to {path}")
