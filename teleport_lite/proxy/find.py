"""What a proxy says of itself to everybody: the answers of /webapi/find and /webapi/ping.

Clients learn from it where the ports are and what the cluster is called. Nothing here is
secret, and nothing is believed by who reads it over an unverified connection but the direction.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from teleport_lite.config.model import Channel
from teleport_lite.proto.skew import oldest_client

DEFAULT_CHANNEL = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Addresses are host:port, "" for what this proxy does not have."""

    cluster: str
    version: str  # without a v
    public: tuple[str, ...]  # how people and agents reach the web port, the first one first
    web_listen: str
    ssh_listen: str
    tunnel_listen: str
    ssh_public: tuple[str, ...] = ()
    tunnel_public: tuple[str, ...] = ()
    ca_pins: tuple[str, ...] = ()
    channels: Mapping[str, Channel] = field(default_factory=dict)
    # Where others certainly reach the web port; "" if that is not known. Scripts carry it.
    published: str = ""
    releases: tuple[str, ...] = ()  # versions that this proxy can hand out

    @property
    def installable(self) -> bool:
        """Whether the version that hosts should have can be had here."""
        channel = channel_of(self, DEFAULT_CHANNEL)
        return channel is not None and channel.version.removeprefix("v") in self.releases

    @property
    def proxy(self) -> str:
        """What people type after --proxy=."""
        return self.public[0] if self.public else self.web_listen


def found(facts: Facts) -> dict[str, Any]:
    """The answer of /webapi/find."""
    channel = channel_of(facts, DEFAULT_CHANNEL)
    return {
        "cluster_name": facts.cluster,
        "server_version": facts.version,
        "min_client_version": oldest_client(facts.version),
        "proxy": {
            "ssh": {
                "listen_addr": facts.ssh_listen,
                "tunnel_listen_addr": facts.tunnel_listen,
                "web_listen_addr": facts.web_listen,
                "public_addr": _first(facts.public),
                "ssh_public_addr": _first(facts.ssh_public),
                "ssh_tunnel_public_addr": _first(facts.tunnel_public),
            },
            "tls_routing_enabled": True,  # SSH and tunnels are always taken on the web port
        },
        "ca_pins": list(facts.ca_pins),
        "auto_update": {
            "agent_version": (channel or Channel(version=facts.version)).version.removeprefix("v"),
            "agent_auto_update": facts.installable,
            "tools_version": facts.version,
            "tools_auto_update": False,
        },
        "automatic_upgrades": facts.installable,
        "edition": "oss",
        "fips": False,
    }


def pinged(facts: Facts) -> dict[str, Any]:
    """The answer of /webapi/ping: the same, and how people log in."""
    return found(facts) | {
        "auth": {
            "type": "local",
            "second_factor": "off",
            "preferred_local_mfa": "",
            "local": {"name": ""},
            "allow_passwordless": False,
            "allow_headless": False,
            "private_key_policy": "none",
            "default_session_ttl": "12h0m0s",
            "has_motd": False,
            "load_all_cas": False,
        }
    }


def channel_of(facts: Facts, name: str) -> Channel | None:
    """The default channel is there even if nobody has configured one: what we are ourselves."""
    if name == DEFAULT_CHANNEL:
        return facts.channels.get(name) or Channel(version=f"v{facts.version}")
    return facts.channels.get(name)


def _first(addresses: tuple[str, ...]) -> str:
    return addresses[0] if addresses else ""
