"""The page behind an invite link: whose it is, and setting the password.

The password goes from the browser to this proxy, and from here to auth over mutual TLS. It is
kept nowhere, not even for a second try: whoever mistyped types both again.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from teleport_lite.errors import Conflict, Denied, Malformed, NotFound
from teleport_lite.model.password import MAX_LENGTH
from teleport_lite.proto.codec import MAX_JOIN, Message, read, write
from teleport_lite.proto.login import InviteAccept, InviteLook, InviteView
from teleport_lite.proxy.pages import page
from teleport_lite.proxy.throttle import Throttle

LOOK, ACCEPT = "/v1/invite/look", "/v1/invite/accept"
TOKEN = re.compile(r"[A-Za-z0-9_-]{8,128}")
GONE = (
    "This link has expired, was used already, or never was one. "
    "Ask whoever invited you for a new one."
)
MANY = "There were too many tries from your network. Wait a few minutes."


class Auth(Protocol):
    async def ask(self, path: str, message: Message) -> Any:
        """Raises what auth said, or Unavailable."""


@dataclass(frozen=True, slots=True)
class Shown:
    status: int
    html: str


class InvitePage:
    def __init__(self, auth: Auth, throttle: Throttle, *, proxy: Callable[[], str]) -> None:
        """`proxy` is what people type after --proxy=."""
        self._auth, self._throttle, self._proxy = auth, throttle, proxy

    async def show(self, token: str, source: str) -> Shown:
        """The form. Raises Unavailable when auth can not be asked."""
        view = await self._look(token, source)
        return view if isinstance(view, Shown) else _form(view)

    async def accept(self, token: str, source: str, form: Mapping[str, str]) -> Shown:
        """Set the password, or show the form again with what is wrong."""
        view = await self._look(token, source)
        if isinstance(view, Shown):
            return view
        password = form.get("password", "")
        wrong = _wrong(password, form.get("again", ""), view.min_length)
        if wrong:
            return _form(view, wrong)
        try:
            message = InviteAccept(token=token, password=password, source=source)
            await self._auth.ask(ACCEPT, message)
        except Malformed as why:
            return _form(view, f"{why.message[:1].upper()}{why.message[1:]}.")
        except Conflict:
            return _form(view, "This link is being used just now. Try again in a moment.")
        except (NotFound, Denied):
            return self._gone(source)
        return Shown(200, page("done", title="Done", user=view.user, proxy=self._proxy()))

    async def _look(self, token: str, source: str) -> InviteView | Shown:
        if not self._throttle.take(source):
            return Shown(429, _problem("Slow down", MANY))
        if not TOKEN.fullmatch(token):
            return self._gone(source)
        try:
            answer = await self._auth.ask(LOOK, InviteLook(token=token, source=source))
            return read(InviteView, write(answer), limit=MAX_JOIN)
        except (NotFound, Denied):
            return self._gone(source)

    def _gone(self, source: str) -> Shown:
        """One answer for all of them: a guesser must not learn which links ever existed."""
        self._throttle.refused(source)
        return Shown(404, _problem("This link does not work", GONE))


def _form(view: InviteView, error: str = "") -> Shown:
    html = page(
        "invite",
        title=f"Set the password of {view.user}",
        kind=view.kind,
        user=view.user,
        cluster=view.cluster,
        expires=_moment(view.expires),
        min_length=view.min_length,
        max_length=MAX_LENGTH,
        error=error,
    )
    return Shown(400 if error else 200, html)


def _problem(title: str, message: str) -> str:
    return page("problem", title=title, message=message, trace="")


def _wrong(password: str, again: str, least: int) -> str:
    if password != again:
        return "The two passwords are not the same."
    if len(password) < least:
        return f"The password is too short, it needs at least {least} characters."
    if len(password) > MAX_LENGTH:
        return f"The password is too long, the most is {MAX_LENGTH} characters."
    return ""


def _moment(text: str) -> str:
    try:
        return datetime.fromisoformat(text).astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
    except ValueError:
        return text
