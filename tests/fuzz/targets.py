"""All fuzz targets, by name. docs/fuzzing.md says which reader is in which."""

from tests.fuzz import (
    of_auth,
    of_files,
    of_keys,
    of_messages,
    of_node,
    of_recordings,
    of_ssh,
    of_streams,
    of_web,
)
from tests.fuzz.target import TARGETS, Target

MODULES = (
    of_ssh,
    of_auth,
    of_keys,
    of_streams,
    of_messages,
    of_files,
    of_recordings,
    of_node,
    of_web,
)
ALL: list[Target] = list(TARGETS.values())
