"""The roles that come with us, seated through the same hook as everybody else's."""

import functools
from collections.abc import Sequence
from importlib import import_module

from teleport_lite.model.system_role import AUTH, NODE, PROXY, RoleBook, SystemRole
from teleport_lite.plugin import fence
from teleport_lite.plugin.api import hookimpl
from teleport_lite.plugin.guests import Guests
from teleport_lite.proto.alpn import PROXY_SERVER_NAME
from teleport_lite.proto.join import AUTH_SERVER_NAME

# Packages of plugins/, in the order tables show them. Each one imports plugin/api alone.
PACKAGES = ("app", "db", "kube", "windowsdesktop", "discovery", "bot")
SOURCE = "built in"


class AuthPlugin:
    """Keys of the sections of these three are read by `config/`, hence no `fields` here."""

    @hookimpl
    def teleport_lite_system_roles(self) -> Sequence[SystemRole]:
        auth = SystemRole(
            name=AUTH,
            flag="auth",
            section="auth_service",
            on_by_default=True,
            dns_names=(AUTH_SERVER_NAME,),
        )
        # What another cluster joins with, as a leaf of ours. No process has this role.
        trusted = SystemRole(
            name="trusted_cluster",
            flag="trusted_cluster",
            aliases=frozenset({"trustedcluster"}),
            is_host=False,
            spends_token=True,
            run_by="",
        )
        return auth, trusted


class ProxyPlugin:
    @hookimpl
    def teleport_lite_system_roles(self) -> Sequence[SystemRole]:
        return [
            SystemRole(
                name=PROXY,
                flag="proxy",
                section="proxy_service",
                on_by_default=True,
                dns_names=(PROXY_SERVER_NAME,),
            )
        ]


class NodePlugin:
    @hookimpl
    def teleport_lite_system_roles(self) -> Sequence[SystemRole]:
        return [
            SystemRole(
                name=NODE,
                flag="node",
                section="ssh_service",
                on_by_default=True,
                announces="node",  # shown from the host's heartbeat, nothing to announce
            )
        ]


def seat_builtin(guests: Guests) -> Guests:
    """Raises Unavailable if a part of this program is missing or broken."""
    own: dict[str, object] = {"auth": AuthPlugin(), "proxy": ProxyPlugin(), "node": NodePlugin()}
    for name in PACKAGES:
        own[name] = fence.load(name, functools.partial(import_module, f"teleport_lite_{name}"))
    for name, plugin in own.items():
        guests.seat(name, plugin, source=SOURCE, trusted=True)
    return guests


@functools.cache
def builtin_book() -> RoleBook:
    """The roles this program knows without any invited plugin: nine and `trusted_cluster`."""
    return seat_builtin(Guests()).book
