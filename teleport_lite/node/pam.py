"""The system's own checks of an account, and what it does when a session begins and ends: libpam.

By ctypes, so that nothing is compiled and a host without PAM loses nothing. Modules are code of
others that runs as root here: they are called in a process of their own (`keeper.py`) only.
Linux-PAM's headers (_pam_types.h) name the numbers.
"""

import ctypes
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from teleport_lite.errors import Denied, Unavailable
from teleport_lite.node.notices import shown

LIBRARY = "libpam.so.0"
# pam.d(5): the administrator's, the distribution's.
DIRECTORIES = (Path("/etc/pam.d"), Path("/usr/lib/pam.d"), Path("/usr/share/pam.d"))
# What modules may say in all; a message of the day is a page.
MAX_NOTICE = 8 * 1024
_MAX_VARIABLES = 1024

_SUCCESS, _BUF_ERR, _CONV_ERR = 0, 5, 19
_TTY, _RHOST = 3, 4
_ESTABLISH_CRED, _DELETE_CRED = 2, 4
_ERROR_MSG, _TEXT_INFO = 3, 4
_MAX_MESSAGES = 32  # PAM_MAX_NUM_MSG


class _Message(ctypes.Structure):
    _fields_ = (("style", ctypes.c_int), ("text", ctypes.c_char_p))


class _Response(ctypes.Structure):
    _fields_ = (("text", ctypes.c_void_p), ("code", ctypes.c_int))


_CONVERSE = ctypes.CFUNCTYPE(
    ctypes.c_int,
    ctypes.c_int,
    ctypes.POINTER(ctypes.POINTER(_Message)),
    ctypes.POINTER(ctypes.c_void_p),
    ctypes.c_void_p,
)


class _Conversation(ctypes.Structure):
    _fields_ = (("converse", _CONVERSE), ("data", ctypes.c_void_p))


def check(service: str, *, library: str = LIBRARY) -> None:
    """Would PAM work here? Raises Unavailable or Denied, to say so when the node starts.

    Without its file a service falls back to "other", which lets nobody in: that is refused
    here, where an administrator reads it.
    """
    off = "set ssh_service.pam.enabled: no"
    if os.geteuid() != 0:
        raise Denied("pam: enabled, but this node does not run as root", hint=off)
    _load(library)
    if not any((place / service).is_file() for place in DIRECTORIES):
        raise Unavailable(
            f"pam: enabled, but there is no {DIRECTORIES[0] / service}",
            hint=f"write that file (man pam.d), or {off}",
        )


def _load(library: str = LIBRARY) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(library)
    except OSError:
        raise Unavailable(
            f"pam: enabled, but {library} can not be loaded here",
            hint="install libpam (apt-get install libpam0g), or set ssh_service.pam.enabled: no",
        ) from None


class Pam:
    """One session of one account. Every call may take as long as a module likes."""

    def __init__(self, service: str, login: str, *, library: str = LIBRARY) -> None:
        self._pam, self._libc = _load(library), ctypes.CDLL(None)
        self._libc.calloc.restype = ctypes.c_void_p
        self._libc.calloc.argtypes = (ctypes.c_size_t, ctypes.c_size_t)
        self._pam.pam_strerror.restype = ctypes.c_char_p
        self._pam.pam_getenvlist.restype = ctypes.POINTER(ctypes.c_char_p)
        self._said = ""
        # Both have to live as long as the handle does.
        self._callback = _CONVERSE(self._converse)
        self._conversation = _Conversation(self._callback, None)
        self._handle = ctypes.c_void_p()
        self._status = _SUCCESS
        self._has_credentials = self._is_open = False
        self._do(
            "start",
            service.encode(),
            login.encode(),
            ctypes.byref(self._conversation),
            ctypes.byref(self._handle),
        )

    def open(self, *, host: str, variables: Mapping[str, str]) -> None:
        """May the account be used now, and whatever comes with a session. Raises Denied, with
        what the modules have said; then `close` is still due."""
        self._do("set_item", self._handle, _RHOST, host.encode())
        # As sshd: there is no terminal yet, and some modules fail without the name of one.
        self._do("set_item", self._handle, _TTY, b"ssh")
        for name, value in variables.items():
            self._do("putenv", self._handle, os.fsencode(f"{name}={value}"))
        self._do("acct_mgmt", self._handle, 0)
        # As sshd: nobody has given a password, so a module without a credential is no obstacle.
        self._has_credentials = self._pam.pam_setcred(self._handle, _ESTABLISH_CRED) == _SUCCESS
        self._do("open_session", self._handle, 0)
        self._is_open = True

    def said(self) -> str:
        """All that the modules have said up to now."""
        return self._said

    def env(self) -> dict[str, str]:
        listed = self._pam.pam_getenvlist(self._handle)
        found: dict[str, str] = {}
        at = 0
        while listed and at < _MAX_VARIABLES and (pair := listed[at]) is not None:
            name, equals, value = os.fsdecode(pair).partition("=")
            if name and equals:
                found[name] = value
            at += 1
        return found  # what libpam has allocated goes with this process

    def close(self) -> None:
        """Undo what `open` has come to."""
        if self._is_open:
            self._status = self._pam.pam_close_session(self._handle, 0)
        if self._has_credentials:
            self._pam.pam_setcred(self._handle, _DELETE_CRED)
        self._pam.pam_end(self._handle, self._status)
        self._is_open = self._has_credentials = False

    def _do(self, name: str, *given: Any) -> None:
        self._status = getattr(self._pam, f"pam_{name}")(*given)
        if self._status != _SUCCESS:
            why = self._pam.pam_strerror(self._handle, self._status)
            reason = os.fsdecode(why or b"unknown").lower()
            raise Denied(
                f"{self._said}this account is refused by the host: {reason}",
                log=f"pam_{name}: {reason}",
            )

    def _converse(self, count: int, messages: Any, answer: Any, _data: Any) -> int:
        """Modules may tell, and not ask: whoever logs in has shown a certificate already."""
        if not 0 < count <= _MAX_MESSAGES:
            return _CONV_ERR
        for at in range(count):
            message = messages[at].contents
            if message.style not in (_ERROR_MSG, _TEXT_INFO):
                return _CONV_ERR
            self._hear(message.text or b"")
        # The module frees it. No text in any of them.
        answer[0] = self._libc.calloc(count, ctypes.sizeof(_Response))
        return _SUCCESS if answer[0] else _BUF_ERR

    def _hear(self, text: bytes) -> None:
        room = MAX_NOTICE - len(self._said)
        line = shown(text[:MAX_NOTICE].decode("utf-8", "replace").replace("\r\n", "\n"))
        if line and room > 0:
            self._said += (line if line.endswith("\n") else f"{line}\n")[:room]
