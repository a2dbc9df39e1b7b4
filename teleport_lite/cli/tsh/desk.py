"""What every tsh command has at hand: who is meant, and through which proxy."""

from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from teleport_lite.ambient import SystemClock
from teleport_lite.cli.exit import warn
from teleport_lite.client.find import profile_home
from teleport_lite.errors import Denied, Error, Malformed, NotFound, Unauthenticated, Unavailable

if TYPE_CHECKING:  # what not every command needs
    from teleport_lite.client.leaves import Leaf
    from teleport_lite.client.me import MeClient
    from teleport_lite.client.person import Person
    from teleport_lite.client.profile import Profile
    from teleport_lite.client.recordings import RecordingsClient
    from teleport_lite.client.transport import Transport

PROXY_PORT = 3080


@dataclass(slots=True)
class Desk:
    """Filled by the shared flags of `cli/tsh/main.py`; one per command line."""

    proxy: str = ""
    user: str = ""
    login: str = ""
    cluster: str = ""
    identity: str = ""
    ttl: str = ""
    add_keys_to_agent: str = "auto"
    insecure: bool = False
    clock: SystemClock = field(default_factory=SystemClock)

    @property
    def home(self) -> Path:
        return profile_home()

    @property
    def proxy_address(self) -> str:
        """host:port of what was typed. Raises Malformed."""
        from teleport_lite.config.address import parse_address

        return parse_address(self.proxy, PROXY_PORT)

    @property
    def proxy_host(self) -> str:
        from teleport_lite.config.address import split_address

        return split_address(self.proxy_address)[0]

    def profile(self) -> "Profile | None":
        """The one that is meant: of the proxy that was typed, or the current one."""
        from teleport_lite.client import profile

        if not self.proxy:
            return profile.current(self.home)
        return profile.named(self.home, self.proxy_host)

    def person(self, *, even_expired: bool = False) -> "Person":
        """Whose credentials are used. People at a terminal are asked to log in again when
        theirs have expired; everybody else gets Unauthenticated."""
        found = self._person()
        if even_expired or not found.papers.expired(self.clock.now()):
            return found
        from teleport_lite.cli.tsh.password import at_terminal

        if self.identity or not at_terminal():
            raise Unauthenticated(
                f"the credentials of {found.source} have expired "
                f"on {found.papers.expires:%Y-%m-%d %H:%M} UTC",
                hint="tsh login",
            )
        from teleport_lite.cli.tsh.login import log_in

        warn("your login has expired")
        log_in(self)
        return self._person()

    def _person(self) -> "Person":
        from teleport_lite.client.person import by_file, by_profile, not_logged_in

        address = self.proxy_address if self.proxy else ""
        if self.identity:
            found = by_file(Path(self.identity), address)
        else:
            chosen = self.profile()
            if chosen is None or (self.user and chosen.user != self.user):
                raise not_logged_in(self.proxy_host if self.proxy else "")
            found = by_profile(self.home, chosen)
            if _has_port(self.proxy):
                found = replace(found, proxy=address)
        return found if self.cluster in ("", found.cluster) else self._at_leaf(found)

    def _at_leaf(self, person: "Person") -> "Person":
        """On the way to another cluster. Whom to believe there the own one says, now or when it
        was last asked. Raises NotFound."""
        from teleport_lite.client.leaves import at_leaf, at_leaf_in, place_of_file

        chosen, trouble = None if self.identity else self.profile(), None
        try:
            self.clusters(person)
        except Error as why:  # what was told last holds
            trouble = why
        if chosen is not None:
            return at_leaf(person, self.home, chosen, self.cluster)
        try:
            return at_leaf_in(person, place_of_file(self.home, person), self.cluster)
        except NotFound:
            if isinstance(trouble, Denied) and person.papers.user.startswith("bot-"):
                raise Denied(
                    f"{person.source} is of a bot, and for cluster {person.cluster} alone",
                    hint="tctl auth sign --user=NAME --out=FILE",
                ) from None
            if trouble is not None:  # nothing was ever told, and this is why
                raise trouble from None
            raise

    def clusters(self, person: "Person") -> "list[Leaf]":
        """The leaves of the cluster of `person`; the profile keeps what is told of them. Raises
        Unavailable or what the server refuses with."""
        from teleport_lite.client.leaves import keep, keep_in, leaves_of, place_of_file

        found = leaves_of(self.me(person).clusters())
        chosen = None if self.identity else self.profile()
        if chosen is not None:
            keep(self.home, chosen, found)
            return found
        place = place_of_file(self.home, person)
        if found or place.exists():  # a home that nobody needs is not made
            keep_in(place, person.cluster, found)
        return found

    def trust_of_now(self) -> None:
        """Have the profile know the host CAs of now, if they are being rotated. Raises
        Unauthenticated if they were, or if its own certificate is of a CA that was; who can not be
        asked is no reason to fail."""
        from teleport_lite.client.rotated import refresh

        chosen = None if self.identity else self.profile()
        if chosen is None:
            return
        with suppress(Denied, Unavailable, Malformed, NotFound):
            refresh(self.home, chosen)

    def me(self, person: "Person") -> "MeClient":
        from teleport_lite.client.me import MeClient

        return MeClient(self._transport(person))

    def recordings(self, person: "Person") -> "RecordingsClient":
        from teleport_lite.client.recordings import RecordingsClient

        return RecordingsClient(self._transport(person))

    def _transport(self, person: "Person") -> "Transport":
        from teleport_lite.client.transport import Transport

        return Transport(person.door(), clock=self.clock)


def desk_of(ctx: typer.Context) -> Desk:
    return ctx.ensure_object(Desk)


def _has_port(text: str) -> bool:
    return text.rpartition("]")[2].count(":") == 1 or text.lower().startswith("https://")
