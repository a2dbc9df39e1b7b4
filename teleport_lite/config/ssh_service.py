"""What ssh_service says about accounts and their surroundings, as NodeConfig wants it."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from teleport_lite.config import model
from teleport_lite.config.path import absolute_path
from teleport_lite.config.section import Reader
from teleport_lite.errors import Malformed
from teleport_lite.model.env_names import ACCEPTED, NAME, check_patterns

_PATH = "ssh_service"
# A file name in /etc/pam.d; "." and ".." are none.
_SERVICE = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}")
_MAX_VARIABLES = 64
# A display N is port 6000+N. The first are left to screens that hang on this host.
_FIRST_DISPLAY, _DISPLAYS, _LAST_DISPLAY = 10, 1000, 65535 - 6000
_MAX_VALUE = 1024
_TEMPLATE = re.compile(r"\{\{\s*(?:internal|external)\.[A-Za-z0-9_]+\s*\}\}")


def account_keys(reader: Reader, values: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments of NodeConfig. Raises Malformed."""
    accept = values["accept_env"]
    if accept is not None:
        accept = reader.checked(f"{_PATH}.accept_env", check_patterns, accept)
    return {
        "accept_env": ACCEPTED if accept is None else accept,
        "permit_user_env": bool(values["permit_user_env"]),
        "create_host_users": not values["disable_create_host_user"],
        "banner": _banner(reader, values["banner"]),
        "pam": _pam(reader, values["pam"]),
    }


def forward_keys(reader: Reader, values: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments of NodeConfig. Raises Malformed."""
    x11 = values["x11"] or {}
    first = x11.get("display_offset") or _FIRST_DISPLAY
    last = x11.get("max_display") or min(first + _DISPLAYS, _LAST_DISPLAY)
    for name, value in (("display_offset", first), ("max_display", last)):
        if not 0 < value <= _LAST_DISPLAY:
            why = f"must be a number from 1 to {_LAST_DISPLAY}, like {_FIRST_DISPLAY}"
            raise reader.wrong(f"{_PATH}.x11.{name}", why)
    if last < first:
        raise reader.wrong(f"{_PATH}.x11.max_display", "must not be less than display_offset")
    return {
        "port_forwarding": values["port_forwarding"],
        "file_copy": values["ssh_file_copy"],
        "x11": bool(x11.get("enabled")),
        "x11_displays": (first, last),
    }


def _banner(reader: Reader, text: str | None) -> Path | None:
    """Teleport's samples and sshd's say none by the word."""
    if not text or text.lower() == "none":
        return None
    return reader.checked(f"{_PATH}.banner", absolute_path, text)


def _pam(reader: Reader, said: Mapping[str, Any] | None) -> model.PamConfig:
    if said is None:
        return model.PamConfig()
    service = said["service_name"] or "sshd"
    if not _SERVICE.fullmatch(service):
        raise reader.wrong(f"{_PATH}.pam.service_name", "must be a file in /etc/pam.d, like sshd")
    if said["use_pam_auth"]:
        path = f"{_PATH}.pam.use_pam_auth"
        line = reader.lines[path]
        why = "is not built: certificates are what logs in here, and no module is asked for more"
        reader.warnings.append(f"{reader.source}:{line}: {path}: {why}")
    environment = reader.checked(f"{_PATH}.pam.environment", _environment, said["environment"])
    return model.PamConfig(
        enabled=bool(said["enabled"]), service_name=service, environment=environment
    )


def _environment(said: object) -> dict[str, str]:
    if said is None or said == "":
        return {}
    if not isinstance(said, Mapping) or len(said) > _MAX_VARIABLES:
        raise Malformed("must hold names and texts, like {EMAIL: '{{external.email}}'}")
    found = {}
    for name, value in said.items():
        if not NAME.fullmatch(str(name)):
            raise Malformed(f"{str(name)[:64]!a} is no name of a variable, like EMAIL")
        if not isinstance(value, str) or len(value) > _MAX_VALUE or not value.isprintable():
            raise Malformed(f"{name} must be one line of text, like '{{{{external.email}}}}'")
        if "{{" in _TEMPLATE.sub("", value):
            raise Malformed(
                f"{name} has a template that cannot be read, '{{{{external.email}}}}' can"
            )
        found[str(name)] = value
    return found
