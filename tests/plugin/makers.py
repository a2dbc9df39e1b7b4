"""Plugins as tests need them: in memory, and as directories and distributions on disk."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from textwrap import dedent

from teleport_lite.model.host import Resource
from teleport_lite.model.system_role import SystemRole
from teleport_lite.plugin.api import hookimpl
from teleport_lite.plugin.guests import Guests

Announce = Callable[[str, Mapping[str, object]], object]

LAB = SystemRole(
    name="Lab",
    flag="lab",
    aliases=frozenset({"laboratory"}),
    section="lab_service",
    announces="lab_server",
)


class LabPlugin:
    """A plugin of one role; `announce` stands for what its author wrote."""

    def __init__(
        self, roles: Sequence[SystemRole] = (LAB,), announce: Announce = lambda role, given: None
    ) -> None:
        self.roles, self.announce = roles, announce

    @hookimpl
    def teleport_lite_system_roles(self):
        return self.roles

    @hookimpl
    def teleport_lite_announce(self, role, settings):
        return self.announce(role, settings)


def seated(plugin: object, name: str = "lab") -> Guests:
    guests = Guests()
    guests.seat(name, plugin, source="test")
    return guests


def showing(*resources: object) -> Guests:
    return seated(LabPlugin(announce=lambda role, settings: list(resources)))


def lab_server(name: str = "lab-1", **more) -> Resource:
    return Resource(kind="lab_server", name=name, **more)


GOOD = """
from teleport_lite.plugin.api import SystemRole, hookimpl

@hookimpl
def teleport_lite_system_roles():
    return [SystemRole(name="Lab", flag="lab", section="lab_service", announces="lab_server")]
"""


def on_disk(parent: Path, name: str = "lab", text: str = GOOD) -> Path:
    """A plugin directory that only we can change."""
    home = parent / name
    home.mkdir(mode=0o755)
    file = home / "__init__.py"
    file.write_text(dedent(text))
    file.chmod(0o644)
    return home


def installed(site: Path, *, dist: str = "lab-plugins", module: str = "lab_plugins") -> Path:
    """A distribution in `site`, as pip would leave it."""
    site.mkdir(mode=0o755, exist_ok=True)
    package = on_disk(site, module)
    info = site / f"{dist.replace('-', '_')}-1.0.dist-info"
    info.mkdir(mode=0o755)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {dist}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[teleport_lite]\nlab = {module}\n")
    return package
