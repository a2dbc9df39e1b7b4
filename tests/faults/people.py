"""People who log in with a password, through a proxy, in this process."""

import time
from dataclasses import dataclass

from teleport_lite.ambient import SystemChance, SystemClock
from teleport_lite.client.login import LoginRequest, login
from teleport_lite.pki.pin import parse_pins
from teleport_lite.secret import Secret
from tests.faults.site import Auth
from tests.flow.proxied import PASSWORD, set_password


@dataclass(frozen=True, slots=True)
class Visitor:
    """Somebody with a password. `proxy` is host:port."""

    name: str
    proxy: str
    pin: str

    def login(self) -> float:
        """Seconds until the certificates are here. Raises what the client is told."""
        began = time.monotonic()
        login(
            LoginRequest(
                proxy=self.proxy,
                user=self.name,
                password=lambda: Secret(PASSWORD),
                clock=SystemClock(),
                chance=SystemChance(),
                pins=parse_pins([self.pin]),
            )
        )
        return time.monotonic() - began


def visitor(auth: Auth, proxy: str, name: str) -> Visitor:
    """Invited, and the password set on the page."""
    made = auth.ask("/v1/users/add", name=name, roles=["access"])
    set_password(made["invite"]["url"], int(proxy.rpartition(":")[2]))
    return Visitor(name, proxy, auth.pins[0])
