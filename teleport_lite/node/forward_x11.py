"""Telling the programs of a shell how to get at the client's display: xauth(1), as the login user.

What is written down is the fake cookie that the client has made up for this connection; it puts
the real one in its place by itself.
"""

import os
import re
import subprocess
from collections.abc import Mapping

from teleport_lite.node.permit import Refusal

XAUTHS = ("/usr/bin/xauth", "/usr/local/bin/xauth", "/usr/X11R6/bin/xauth", "/opt/X11/bin/xauth")
# It waits for the lock of somebody else's xauth; nobody waits for it that long.
_SECONDS = 5.0
# As sshd takes them: they become words of a command.
_WORD = re.compile(rb"[A-Za-z0-9.:/_-]{1,512}")


def allow_display(display: int, protocol: bytes, cookie: bytes, env: Mapping[str, str]) -> None:
    """Blocks until it is done, for a few milliseconds. Raises Refusal, or OSError."""
    if not _WORD.fullmatch(protocol) or not _WORD.fullmatch(cookie):
        raise Refusal("the client's X11 cookie is none")
    xauth = next((path for path in XAUTHS if os.access(path, os.X_OK)), None)
    if xauth is None:
        raise Refusal("this host has no xauth")
    name = b"unix:%d" % display  # it stands for localhost:N, as the programs look it up
    said = b"remove %s\nadd %s %s %s\n" % (name, name, protocol, cookie)
    try:
        done = subprocess.run(  # noqa: S603
            [xauth, "-q", "-"],
            input=said,
            env=dict(env),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Refusal("xauth does not end") from None
    if done.returncode:
        raise Refusal("xauth failed; is the home directory writable?")
