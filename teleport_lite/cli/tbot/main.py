"""The commands of tbot."""

from collections.abc import Mapping
from typing import ClassVar

from teleport_lite.cli.lazy import LazyGroup, Place, program

_HERE = "teleport_lite.cli"


class TbotGroup(LazyGroup):
    places: ClassVar[Mapping[str, Place]] = {
        "start": Place(f"{_HERE}.tbot.start", "start", "Join, write certificates, renew them."),
        "configure": Place(f"{_HERE}.tbot.configure", "configure", "Write a configuration file."),
        "version": Place(f"{_HERE}.version", "version", "Print the version."),
    }


app = program(TbotGroup, "Certificates for programs, always fresh.")
