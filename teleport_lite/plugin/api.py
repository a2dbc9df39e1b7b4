"""Everything a plugin may import from us. If it is not here, it may change without notice.

hookimpl                      marks a function of yours as one of our hooks
SystemRole, Field, Kind       a role and its section of the config file, as data
Resource                      what a process shows to the cluster
Malformed, Denied             refusals: the settings are wrong; the answer is no
Unavailable                   not now: something you need is away
Section                       reads settings by key; its errors name the key
show_duration                 a length of time as tables show it
"""

import pluggy

from teleport_lite.errors import Denied, Malformed, Unavailable
from teleport_lite.model.duration import show_duration
from teleport_lite.model.host import Resource
from teleport_lite.model.schema import Field, Kind
from teleport_lite.model.system_role import SystemRole
from teleport_lite.plugin.hookspecs import PROJECT
from teleport_lite.plugin.section import Section

__all__ = [
    "Denied",
    "Field",
    "Kind",
    "Malformed",
    "Resource",
    "Section",
    "SystemRole",
    "Unavailable",
    "hookimpl",
    "show_duration",
]

hookimpl = pluggy.HookimplMarker(PROJECT)
