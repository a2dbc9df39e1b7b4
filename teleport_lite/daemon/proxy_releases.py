"""What this host can hand out of the program, and under which address."""

import ipaddress
import logging
import os
from collections.abc import Mapping

from teleport_lite import __version__
from teleport_lite.config.address import split_address
from teleport_lite.config.model import Channel, Config
from teleport_lite.proto.stream import ProxyPlace
from teleport_lite.proxy.downloads import Downloads
from teleport_lite.proxy.releases import Loose, Releases, Shelf
from teleport_lite.release.here import installation_of, own_file

log = logging.getLogger("teleport_lite.proxy.releases")

# Seconds. An administrator who adds a version sees it told to agents soon after.
LOOK_EVERY = 60.0


def published(config: Config, place: ProxyPlace) -> str:
    """Where others reach the web port for certain, or "".

    Without a public_addr it is what auth is told as well, unless that is a loopback address: it
    would lead everybody to their own machine.
    """
    if config.proxy.public_addrs:
        return config.proxy.public_addrs[0]
    found = place.public[0] if place.public else ""
    return "" if _is_loopback(found) else found


class ReleaseDesk:
    """`look` waits for the disk."""

    def __init__(self, config: Config) -> None:
        self._extra, self._channels = config.proxy.releases_dir, config.proxy.channels
        places: list[Shelf | Loose] = [Shelf(self._extra)] if self._extra else []
        file = own_file()
        if file is not None:
            here = installation_of(file)
            places.append(Shelf(here.lib, placed=True) if here else Loose(file, __version__))
        self.downloads = Downloads(Releases(*places))
        self._said: list[str] = []

    def look(self) -> None:
        """Find what is there, and log what is amiss, once."""
        self.downloads.look()
        said = self._amiss(self.downloads.known, self._channels)
        for line in said:
            if line not in self._said:
                log.warning("%s", line)
        self._said = said

    def _amiss(self, known: tuple[str, ...], channels: Mapping[str, Channel]) -> list[str]:
        found = []
        if self._extra is not None and not os.access(self._extra, os.R_OK | os.X_OK):
            found.append(f"proxy_service.releases_dir {self._extra} can not be read")
        there = ", ".join(known[:5]) or "none"
        for name, channel in channels.items():
            if channel.version.removeprefix("v") not in known:
                found.append(
                    f"upgrade channel {name} says {channel.version}, which this proxy does not "
                    f"have to hand out (it has: {there})"
                )
        return found


def _is_loopback(address: str) -> bool:
    host = split_address(address)[0]
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in ("", "localhost")
