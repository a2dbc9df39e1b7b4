"""How our errors look on the wire, in both directions. The only module that knows both words.

HTTP 403 {"error": {"code": "denied", "message": ..., "hint": ..., "trace": ...}}
"""

from typing import Any

from teleport_lite import errors

STATUS: dict[type[errors.Error], int] = {
    errors.Malformed: 400,
    errors.Unauthenticated: 401,
    errors.Denied: 403,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.Unavailable: 503,
}
MAX_TEXT = 2000


def problem(exc: Exception, trace: str) -> tuple[int, dict[str, dict[str, str]]]:
    """An HTTP status and body for `exc`. Strangers learn nothing from our bugs."""
    if isinstance(exc, errors.Error):
        said = {"code": exc.code, "message": exc.message, "hint": exc.hint, "trace": trace}
        return STATUS[type(exc)], {"error": said}
    return 500, {"error": {"code": "internal", "message": "internal error", "trace": trace}}


def as_error(status: int, body: Any, address: str) -> errors.Error:
    """What a server's refusal means to us. Its words are shown, so they are cut and made plain."""
    said = body.get("error") if isinstance(body, dict) else None
    if not isinstance(said, dict):
        return errors.Unavailable(f"{address} answered {status} without saying why")
    kind = errors.KINDS.get(str(said.get("code")))
    message, hint = plain(str(said.get("message", ""))), plain(str(said.get("hint", "")))
    if kind is None:
        trace = plain(str(said.get("trace", "")))[:40]
        return errors.Unavailable(
            f"{address} failed: {message}", hint=f"look for {trace} in its log"
        )
    return kind(message or f"{address} answered {status}", hint=hint)


def plain(text: str) -> str:
    """Text of a stranger, safe for a terminal: no control characters, a limit on length."""
    return "".join(char if char.isprintable() or char in "\n\t" else " " for char in text)[
        :MAX_TEXT
    ]
