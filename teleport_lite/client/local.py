"""Does this host run auth, and where does it keep its socket? Two keys of the config file.

The whole reader of `config/` would bring every plugin's sections, 60 ms that `tctl status`
does not have; a file it would refuse is told to its owner by `teleport-lite start`.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from teleport_lite.errors import Denied, NotFound, Unavailable

DATA_DIR = Path("/var/lib/teleport-lite")
CONFIG_FILE = Path("/etc/teleport-lite.yaml")
MAX_CONFIG = 1 << 20
# What the config reader takes as "no", in any case.
_NO = frozenset({"no", "false", "off"})


def default_config() -> Path:
    """The file that `start` reads when none is named."""
    return Path(os.environ.get("TELEPORT_LITE_CONFIG") or CONFIG_FILE)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalAuth:
    data_dir: Path | None  # None: auth does not run here
    certain: bool  # a config file said so; otherwise the default place is a guess
    why: str = ""  # why not, when data_dir is None


def look(config: str, data_dir: str, default: Path, default_dir: Path) -> LocalAuth:
    """`config` and `data_dir` as typed ("" if not). Raises for a typed file that is not there,
    or for one that is not YAML."""
    if data_dir:
        return LocalAuth(data_dir=Path(data_dir), certain=True)
    path = Path(config) if config else default
    try:
        text = _text(path)
    except FileNotFoundError:
        if config:
            raise NotFound(f"config file {path} does not exist") from None
        return LocalAuth(data_dir=default_dir, certain=False)
    except PermissionError as why:
        if config:
            raise Denied(f"config file {path} cannot be read: permission denied") from why
        return LocalAuth(data_dir=default_dir, certain=False)
    except OSError as why:
        raise Unavailable(f"config file {path} cannot be read: {why.strerror}") from why
    return _read(text, path, default_dir)


def _read(text: str, path: Path, default_dir: Path) -> LocalAuth:
    from teleport_lite.config.yaml import load_yaml, plain

    tree = load_yaml(text, str(path))
    found = plain(tree) if tree is not None else {}
    enabled = _at(found, "auth_service", "enabled")
    if isinstance(enabled, str) and enabled.lower() in _NO:
        return LocalAuth(
            data_dir=None, certain=True, why=f"auth does not run here ({path} turns it off)"
        )
    chosen = _at(found, "teleport", "data_dir")
    place = Path(chosen) if isinstance(chosen, str) and chosen else default_dir
    return LocalAuth(data_dir=place, certain=True)


def _at(tree: object, section: str, key: str) -> object:
    inner = tree.get(section) if isinstance(tree, dict) else None
    return inner.get(key) if isinstance(inner, dict) else None


def _text(path: Path) -> str:
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.read(MAX_CONFIG + 1)
