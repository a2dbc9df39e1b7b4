"""Scripts that people pipe into a shell: install.sh, and the one with a join token in it.

Nothing of a request gets into an answer: the address is that of the configuration, the token has
passed auth and is made of letters, and what is refused is refused in fixed words (CVE-2022-36633).
A refusal is a script too, one that says why and fails, for those who run curl without -f.
"""

import functools
import logging
import shlex
from collections.abc import Callable
from dataclasses import dataclass

from teleport_lite.errors import Conflict, Denied, Error, Malformed, NotFound, Unavailable
from teleport_lite.model.names import TOKEN
from teleport_lite.net.problems import STATUS
from teleport_lite.proto.codec import MAX_JOIN, read, write
from teleport_lite.proto.script import TokenLook, TokenView
from teleport_lite.proxy.find import Facts
from teleport_lite.proxy.invite_page import Auth
from teleport_lite.proxy.throttle import Throttle
from teleport_lite.release import assets
from teleport_lite.release.script import Join, stamped

log = logging.getLogger("teleport_lite.proxy.scripts")

LOOK = "/v1/tokens/look"
BASE = "/webapi/releases"
GONE = (
    "this link does not work: its token has expired, was revoked, is not for a node alone, or "
    "never was one"
)
ANOTHER = "tctl tokens add --type=node"
MANY = "there were too many tries from your network, wait a few minutes"
HOMELESS = "this proxy does not know by which address others reach it"
EMPTY = "this proxy has no file of the program to hand out"
ODD = "this token has labels that a script can not carry"


@dataclass(frozen=True, slots=True)
class Script:
    status: int
    text: str


class Scripts:
    def __init__(self, auth: Auth, throttle: Throttle, *, facts: Callable[[], Facts]) -> None:
        """`throttle` is shared with the pages of invitations: it is the same guessing."""
        self._auth, self._throttle, self._facts = auth, throttle, facts

    def install(self) -> Script:
        """install.sh, for all who ask."""
        try:
            return Script(200, _stamped(self._base()))
        except Error as why:
            return refusal(why)

    async def node(self, token: str, source: str) -> Script:
        """The same, and it makes the machine a node."""
        try:
            base = self._base()
            _stamped(base)  # so that nobody is asked about a token in vain
            if not self._throttle.take(source):
                return refusal(Unavailable(MANY), 429)
            view = await self._look(token, source)
            return Script(200, _stamped(base, self._join(token, view)))
        except Error as why:
            return refusal(why)

    async def _look(self, token: str, source: str) -> TokenView:
        """Raises NotFound, the same for every token that does not work: a guesser must not learn

        which ones ever existed. Unavailable.
        """
        try:
            if not TOKEN.fullmatch(token):
                raise NotFound(GONE)
            said = await self._auth.ask(LOOK, TokenLook(token=token, source=source))
        except (NotFound, Denied, Malformed):
            self._throttle.refused(source)
            raise NotFound(GONE, hint=ANOTHER) from None
        return read(TokenView, write(said), limit=MAX_JOIN)

    def _base(self) -> str:
        """Where releases are. Raises Unavailable for what this proxy can not do."""
        facts = self._facts()
        if not facts.published:
            raise Unavailable(HOMELESS, hint="set proxy_service.public_addr there")
        if not facts.releases:
            raise Unavailable(EMPTY, hint="set proxy_service.releases_dir there")
        return f"https://{facts.published}{BASE}"

    def _join(self, token: str, view: TokenView) -> Join:
        """Raises Conflict."""
        try:
            pins = tuple(view.ca_pins)
            return Join(self._facts().published, token, pins=pins, labels=view.labels)
        except Malformed as why:
            log.warning("no script for a node: %s", why.message)
            raise Conflict(ODD, hint=f"{ANOTHER} shows how to join without one") from why


def refusal(why: Error, status: int = 0) -> Script:
    """A script that says why, and fails."""
    words = [f"ERROR: {why.message}", *([f"  try: {why.hint}"] if why.hint else [])]
    lines = "".join(f"printf '%s\\n' {shlex.quote(each)} >&2\n" for each in words)
    return Script(status or STATUS[type(why)], f"#!/bin/sh\n{lines}exit 1\n")


def _stamped(base: str, join: Join | None = None) -> str:
    """Raises Unavailable."""
    try:
        return stamped(_template(), base=base, keys=assets.release_keys(), join=join)
    except (Malformed, NotFound) as why:
        raise Unavailable(f"this proxy can not make the script: {why.message}") from why


@functools.cache
def _template() -> str:
    return assets.text("install.sh")
