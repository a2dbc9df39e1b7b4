"""What the auth service tells a person about herself and the nodes she may reach."""

from collections.abc import Mapping

from teleport_lite.client.admin import Asking
from teleport_lite.client.facts import Facts


class MeClient:
    """Every method raises what the server refused with, Unavailable or Malformed."""

    def __init__(self, transport: Asking) -> None:
        self._transport = transport

    def nodes(self, *, labels: Mapping[str, str], search: str = "") -> list[Facts]:
        """Nodes on which some login is allowed, with those `logins`."""
        return self._ask("/v1/me/nodes", labels=dict(labels), search=search).each("nodes")

    def me(self) -> Facts:
        """User, roles, logins, traits and cluster, as they are now."""
        return self._ask("/v1/me")

    def cas(self) -> Facts:
        """The `host_cas` (PEM) and `ssh_host_cas` (OpenSSH lines) of now."""
        return self._ask("/v1/me/cas")

    def clusters(self) -> Facts:
        """Leaf `clusters`, where one may go on to, with their CAs."""
        return self._ask("/v1/me/clusters")

    def _ask(self, path: str, **fields: object) -> Facts:
        return Facts(self._transport.ask(path, fields), f"{self._transport.name} to {path}")
