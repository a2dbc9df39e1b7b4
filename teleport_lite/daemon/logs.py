"""What the daemon says while it runs: one line a thing, to stderr or a file, as text or JSON."""

import json
import logging
import sys
from datetime import UTC, datetime
from pathlib import Path

from teleport_lite.config.model import LogConfig

_NAMES = {"WARNING": "WARN", "CRITICAL": "ERROR"}
_LEVELS = {"TRACE": logging.DEBUG, "WARN": logging.WARNING}


def set_up(config: LogConfig, *, debug: bool) -> None:
    """Replaces whatever handlers there are."""
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    handler = _handler(config.output)
    handler.setFormatter(JsonLines() if config.format == "json" else TextLines())
    root.addHandler(handler)
    level = logging.DEBUG if debug else _LEVELS.get(config.severity) or config.severity
    root.setLevel(level)
    # paramiko logs a traceback for every scanner that hangs up; our own words cover it.
    logging.getLogger("paramiko").setLevel(logging.CRITICAL)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    logging.getLogger("aiohttp").setLevel(logging.WARNING)


def _handler(output: str) -> logging.Handler:
    if output == "stdout":
        return logging.StreamHandler(sys.stdout)
    if output.startswith("/"):
        return logging.FileHandler(Path(output), encoding="utf-8")
    return logging.StreamHandler(sys.stderr)


def _parts(record: logging.LogRecord) -> tuple[str, str, str, str]:
    at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="seconds")
    level = _NAMES.get(record.levelname, record.levelname)
    component = record.name.rpartition(".")[2].upper()
    return at.replace("+00:00", "Z"), level, component, plain(record.getMessage())


class TextLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        at, level, component, text = _parts(record)
        line = f"{at} {level} [{component}] {text}"
        if record.exc_info and record.exc_info[0] is not None:
            line = f"{line}\n{self.formatException(record.exc_info)}"
        return line


class JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        at, level, component, text = _parts(record)
        fields = {"timestamp": at, "level": level, "component": component, "message": text}
        if record.exc_info and record.exc_info[0] is not None:
            fields["trace"] = self.formatException(record.exc_info)
        return json.dumps(fields)


def plain(text: str) -> str:
    """One event, one line: what strangers put into names can not forge another."""
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text[:8192])
