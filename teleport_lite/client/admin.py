"""The admin API as methods: one for each thing the auth service can be asked."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from teleport_lite.client.facts import Facts

# Events of one page of the trail.
PAGE = 1000


class Asking(Protocol):
    """What is needed to ask (client/transport.py)."""

    @property
    def name(self) -> str: ...

    def ask(self, path: str, fields: Mapping[str, object]) -> dict[str, Any]: ...


class AdminClient:
    """Every method raises what the server refused with, Unavailable or Malformed."""

    def __init__(self, transport: Asking) -> None:
        self._transport = transport

    @property
    def where(self) -> str:
        """The socket or address that is asked."""
        return self._transport.name

    def _ask(self, path: str, **fields: object) -> Facts:
        """What is None is not said: an older auth need not know that it could be."""
        said = {name: field for name, field in fields.items() if field is not None}
        return Facts(self._transport.ask(path, said), f"{self.where} to {path}")

    def status(self) -> Facts:
        return self._ask("/v1/status")

    # tokens

    def add_token(
        self,
        *,
        types: str,
        value: str = "",
        ttl: str = "",
        labels: Mapping[str, str] | None = None,
        bot_name: str = "",
    ) -> Facts:
        return self._ask(
            "/v1/tokens/add",
            types=types,
            value=value,
            ttl=ttl,
            labels=dict(labels or {}),
            bot_name=bot_name,
        )

    def list_tokens(self) -> list[Facts]:
        return self._ask("/v1/tokens/list").each("tokens")

    def remove_token(self, token: str) -> str:
        """`token` is a value or the unique beginning of one. Returns the whole value."""
        return self._ask("/v1/tokens/remove", token=token).text("token")

    # nodes and resources

    def list_nodes(self) -> list[Facts]:
        return self._ask("/v1/nodes/list").each("nodes")

    def get_resources(self, kind: str, name: str = "") -> list[Facts]:
        return self._ask("/v1/resources/get", kind=kind, name=name).each("resources")

    def create_resource(self, resource: Mapping[str, Any], *, force: bool = False) -> Facts:
        return self._ask("/v1/resources/create", resource=resource, force=force)

    def label_resource(self, kind: str, name: str, labels: Mapping[str, str]) -> Facts:
        return self._ask("/v1/resources/update", kind=kind, name=name, labels=dict(labels))

    def remove_resource(self, kind: str, name: str) -> Facts:
        return self._ask("/v1/resources/remove", kind=kind, name=name)

    # users and bots

    def add_user(
        self, name: str, *, roles: Sequence[str], logins: Sequence[str], ttl: str = ""
    ) -> Facts:
        return self._ask(
            "/v1/users/add", name=name, roles=list(roles), logins=list(logins), ttl=ttl
        )

    def reset_user(self, name: str, *, ttl: str = "") -> Facts:
        """A link with which the user sets a new password; the old one works until then."""
        return self._ask("/v1/users/reset", name=name, ttl=ttl)

    def unlock_user(self, name: str) -> bool:
        """False if the user was not locked out."""
        return self._ask("/v1/users/unlock", name=name).flag("locked")

    def list_users(self) -> list[Facts]:
        return self._ask("/v1/users/list").each("users")

    def update_user(
        self, name: str, *, roles: Sequence[str] | None, logins: Sequence[str] | None
    ) -> Facts:
        """None leaves a list as it is; an empty one empties it."""
        return self._ask(
            "/v1/users/update",
            name=name,
            roles=None if roles is None else list(roles),
            logins=None if logins is None else list(logins),
        )

    def remove_user(self, name: str) -> None:
        self._ask("/v1/users/remove", name=name)

    def add_bot(self, name: str, *, roles: Sequence[str], logins: Sequence[str], ttl: str) -> Facts:
        return self._ask("/v1/bots/add", name=name, roles=list(roles), logins=list(logins), ttl=ttl)

    def list_bots(self) -> list[Facts]:
        return self._ask("/v1/bots/list").each("bots")

    def remove_bot(self, name: str) -> None:
        self._ask("/v1/bots/remove", name=name)

    def add_lock(self, *, target: str, value: str, message: str, ttl: str) -> str:
        return self._ask(
            "/v1/locks/add", target=target, value=value, message=message, ttl=ttl
        ).text("id")

    # certificates

    def sign_user(self, *, user: str, ttl: str, ssh_key: str, tls_csr: str) -> Facts:
        """Only public keys are sent; the private ones stay with the caller."""
        return self._ask("/v1/auth/sign", user=user, ttl=ttl, ssh_key=ssh_key, tls_csr=tls_csr)

    def sign_host(self, *, names: Sequence[str], ttl: str, ssh_key: str, tls_csr: str) -> Facts:
        return self._ask(
            "/v1/auth/sign-host", names=list(names), ttl=ttl, ssh_key=ssh_key, tls_csr=tls_csr
        )

    def export_ca(self, type: str) -> str:
        return self._ask("/v1/auth/export", type=type).text("text")

    def rotate(
        self,
        types: Sequence[str],
        *,
        phase: str = "",
        manual: bool = False,
        grace_period: str = "48h",
        force: bool = False,
    ) -> list[Facts]:
        """Begin a rotation of these CAs, or take its next step. Where they stand then."""
        return self._ask(
            "/v1/auth/rotate",
            types=list(types),
            phase=phase,
            manual=manual,
            grace_period=grace_period,
            force=force,
        ).each("rotations")

    def rotations(self) -> list[Facts]:
        """Where every CA stands."""
        return self._ask("/v1/auth/rotation").each("rotations")

    # the trail

    def list_events(self, *, after: int = 0, limit: int = PAGE) -> list[Facts]:
        return self._ask("/v1/audit/list", after=after, limit=limit).each("events")

    def verify_audit(self) -> Facts:
        return self._ask("/v1/audit/verify")
