"""Files, flags and the environment become one Config. `for_start` is the whole story."""

import base64
import binascii
import os
import shlex
import stat
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from teleport_lite.config import model
from teleport_lite.config.build import build, plugins_config
from teleport_lite.config.flags import Flags
from teleport_lite.config.model import Config
from teleport_lite.config.override import with_flags
from teleport_lite.config.path import opened, read_up_to
from teleport_lite.config.section import Reader
from teleport_lite.config.yaml import MAX_BYTES, load_yaml
from teleport_lite.errors import Denied, Malformed, NotFound
from teleport_lite.model.system_role import RoleBook

__all__ = [
    "Flags",
    "default_file",
    "defaults",
    "for_start",
    "from_environment",
    "invited",
    "load",
    "parse",
    "with_flags",
]

# base64 of a whole config file, for containers without one.
VARIABLE = "TELEPORT_CONFIG"
# Another place for the default file; tests and people without root use it.
FILE_VARIABLE = "TELEPORT_LITE_CONFIG"


def for_start(
    path: Path | None, flags: Flags, book: RoleBook, environ: Mapping[str, str] | None = None
) -> Config:
    """What `teleport-lite start` runs: defaults, then the file, then the flags.

    The file is `path`, else $TELEPORT_CONFIG, else the default file where there is one.
    Raises NotFound, Denied or Malformed.
    """
    environ = os.environ if environ is None else environ
    return with_flags(_found(path, environ, book), flags, book)


def invited(path: Path | None, environ: Mapping[str, str] | None = None) -> model.PluginsConfig:
    """Which plugins the same file invites. Asked first: their sections need their roles.

    Raises as `for_start`, but looks at nothing except `plugins`.
    """
    environ = os.environ if environ is None else environ
    text, source = _text(path, environ) or ("", "")
    return plugins_config(Reader(source), load_yaml(text, source))


def default_file(environ: Mapping[str, str] | None = None) -> Path:
    environ = os.environ if environ is None else environ
    return Path(environ.get(FILE_VARIABLE) or model.CONFIG_FILE)


def defaults(book: RoleBook) -> Config:
    return build(None, "", book)


def parse(text: str, source: str, book: RoleBook) -> Config:
    """Raises Malformed beginning with source, line and key. `source` is only for messages."""
    root = load_yaml(text, source)
    config = build(root, source, book)
    if root is not None:
        return config
    return replace(config, warnings=(f"{source}: is empty, defaults apply", *config.warnings))


def from_environment(environ: Mapping[str, str], book: RoleBook) -> Config | None:
    """The config in $TELEPORT_CONFIG, base64 of YAML; None if it is not set."""
    text = _text_of_variable(environ)
    return None if text is None else parse(text, f"${VARIABLE}", book)


def load(path: Path, book: RoleBook) -> Config:
    """Raises NotFound, Denied (somebody else could have written it) or Malformed."""
    return _with_care(parse(_text_of_file(path), str(path), book), path)


def _found(path: Path | None, environ: Mapping[str, str], book: RoleBook) -> Config:
    if path is not None:
        return load(path, book)
    config = from_environment(environ, book)
    if config is not None:
        return config
    usual = default_file(environ)
    return load(usual, book) if os.path.lexists(usual) else defaults(book)


def _with_care(config: Config, path: Path) -> Config:
    """Reading a config is nobody's business once a token is written in it."""
    sources = (config.token, *(each.source for each in config.auth.tokens))
    written = any(source is not None and source.value is not None for source in sources)
    mode = stat.S_IMODE(path.stat().st_mode)
    if not written or not mode & 0o044:
        return config
    said = f"{path}: holds a token and can be read by others (mode {mode:04o}): chmod 600"
    return replace(config, warnings=(said, *config.warnings))


def _text(path: Path | None, environ: Mapping[str, str]) -> tuple[str, str] | None:
    """The text and its source, wherever it stands; None when defaults are all there is."""
    if path is not None:
        return _text_of_file(path), str(path)
    text = _text_of_variable(environ)
    if text is not None:
        return text, f"${VARIABLE}"
    usual = default_file(environ)
    return (_text_of_file(usual), str(usual)) if os.path.lexists(usual) else None


def _text_of_variable(environ: Mapping[str, str]) -> str | None:
    encoded = "".join(environ.get(VARIABLE, "").split())
    if not encoded:
        return None
    if len(encoded) > 2 * MAX_BYTES:
        raise Malformed(f"${VARIABLE}: is larger than {MAX_BYTES} bytes")
    try:
        raw = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        hint = f"base64 -w0 {model.CONFIG_FILE}"
        raise Malformed(f"${VARIABLE}: is not the base64 form of a file", hint=hint) from None
    return _decode(raw, f"${VARIABLE}")


def _text_of_file(path: Path) -> str:
    return _decode(_read(path), str(path))


def _read(path: Path) -> bytes:
    try:
        if path.is_symlink():
            raise Denied(f"{path}: is a symbolic link, give the file it leads to", hint=_real(path))
        with opened(path, os.O_NOFOLLOW) as descriptor:
            _check(path, os.fstat(descriptor))
            raw = read_up_to(descriptor, MAX_BYTES)
    except FileNotFoundError:
        raise NotFound(f"{path}: does not exist", hint="teleport-lite configure -o file") from None
    except PermissionError:
        raise Denied(f"{path}: may not be read by uid {os.geteuid()}") from None
    except (OSError, ValueError) as why:
        raise Malformed(f"{path}: cannot be opened", log=repr(why)) from None
    if len(raw) > MAX_BYTES:
        raise Malformed(f"{path}: is larger than {MAX_BYTES} bytes")
    return raw


def _real(path: Path) -> str:
    return f"teleport-lite start -c {shlex.quote(os.path.realpath(path))}"


def _check(path: Path, facts: os.stat_result) -> None:
    mode = stat.S_IMODE(facts.st_mode)
    if stat.S_ISDIR(facts.st_mode):
        raise Malformed(f"{path}: is a directory, expected a file", hint="docs/config.md")
    if not stat.S_ISREG(facts.st_mode):
        raise Malformed(f"{path}: is not a regular file", hint="docs/config.md")
    if facts.st_uid not in (0, os.geteuid()):
        why = f"{path}: belongs to uid {facts.st_uid} (mode {mode:04o}), who could change it"
        raise Denied(why, hint=f"chown {os.geteuid()} {shlex.quote(str(path))}")
    if mode & 0o022:
        why = f"{path}: may be written by others (mode {mode:04o})"
        raise Denied(why, hint=f"chmod go-w {shlex.quote(str(path))}")


def _decode(raw: bytes, source: str) -> str:
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in raw[:4]:
        raise Malformed(f"{source}:1: is UTF-16 or binary, save it as UTF-8")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as why:
        line = raw.count(b"\n", 0, why.start) + 1
        raise Malformed(f"{source}:{line}: is not UTF-8 text") from None
