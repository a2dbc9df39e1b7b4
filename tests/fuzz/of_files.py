"""Readers of files and variables: configuration, profiles, environments, our own archive."""

import hashlib
import io
import json
import os
import struct
import sys
import types
import zipfile
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from teleport_lite.agent import identity, record_spool
from teleport_lite.cli import show
from teleport_lite.cli.tbot import settings as tbot
from teleport_lite.cli.tctl import documents as tctl
from teleport_lite.client import flat
from teleport_lite.config.load import _decode, parse
from teleport_lite.config.yaml import dump, load_yaml
from teleport_lite.errors import Denied, Malformed
from teleport_lite.node import surroundings, tty
from teleport_lite.pki.custody import Custody
from teleport_lite.pki.seal import Keyring
from teleport_lite.plugin.builtin import builtin_book
from teleport_lite.proto import backup_file
from teleport_lite.secret import Secret
from tests.fuzz.target import Finding, Pieces, any_of, target
from tests.proto.test_backup_file import a_file

BOOK = builtin_book()
_CONFIG = b"""version: v3
teleport:
  nodename: web-1
  data_dir: /var/lib/teleport
  auth_token: /var/lib/token
  log: {severity: INFO, output: stderr}
  proxy_server: proxy.example.com:443
auth_service:
  enabled: yes
  cluster_name: example.com
  tokens: ["node:0123456789abcdef0123456789abcdef"]
ssh_service:
  enabled: "yes"
  labels: {env: prod, 'a b': "c\\u0041"}
  commands:
  - name: kernel
    command: [uname, -r]
    period: 1h0m
proxy_service:
  enabled: no
  public_addr: [proxy.example.com:443]
"""
_LINES = any_of(
    [*_CONFIG.splitlines(keepends=True), b"- ", b"&a ", b"*a", b"!!python/object:x ", b"? "]
)


@target(seeds=lambda: [_CONFIG], parts=lambda: _LINES, most=8192)
def configuration(data: bytes) -> None:
    try:
        said = parse(_decode(data, "f.yaml"), "f.yaml", BOOK).source
    except Malformed as why:
        said = why.message
        if not said.isprintable() or not said.startswith("f.yaml"):
            raise Finding(f"about what is {said!r}") from why


@target(
    seeds=lambda: [
        _CONFIG,
        b'[{"kind": "role"}, {"a": [1, 2.5, null, true]}]',
        b"a: ~\n---\nb: no\n",
    ],
    parts=lambda: _LINES,
    most=8192,
)
def documents_of_people(data: bytes) -> None:
    """What `tctl create` reads; and YAML that we write says what it said."""
    for found in tctl.read(data.decode("utf-8", "replace"), "f.yaml"):
        with suppress(Malformed, ValueError):  # YAML has no half characters
            text = dump(found)
            load_yaml(text, "again")


@target(
    seeds=lambda: [
        b"version: v2\nproxy_server: p.example.com:3080\nonboarding:\n  token: x\n  join_method: "
        b"token\nstorage:\n  path: /var/lib/tbot\noutputs:\n- type: identity\n  destination:\n"
        b"    type: directory\n    path: /opt\ncertificate_ttl: 1h\noneshot: no\n"
    ],
    parts=lambda: _LINES,
)
def bot_configuration(data: bytes) -> None:
    tbot.read_file(data.decode("utf-8", "replace"), "f.yaml")


@target(seeds=lambda: [b'user: alice\ncluster: "a b"\nweb_proxy_addr: p:3080\n# x\n'])
def profiles(data: bytes) -> None:
    """Files of `tsh`; what we write is what we read."""
    found = flat.read_flat(data.decode("utf-8", "replace"), "f", hint="")
    if flat.read_flat(flat.write_flat(found), "f", hint="") != found:
        raise Finding(f"{found} is not what it was")


_ONE = ("cluster", "host_id", "ssh_private", "ssh_public", "tls_private", "ssh_cert", "tls_cert")
_SEVERAL = ("roles", "host_cas", "ssh_host_cas", "ssh_user_cas", "user_cas")


_IDENTITY = {**dict.fromkeys(_ONE, "x"), **{key: ["x"] for key in _SEVERAL}}


@target(seeds=lambda: [json.dumps(_IDENTITY).encode()])
def identity_of_a_host(data: bytes) -> None:
    identity.loads(data, "identity.json")


@target(
    raises=(),
    seeds=lambda: [
        b'PATH="/bin:/usr/bin"\nexport LANG=C # x\nA=\\\n  b\nB\n',
        b"UMASK\t\t027\nPASS_MAX_DAYS 99\n",
    ],
)
def environments(data: bytes) -> None:
    """/etc/environment and its like."""
    text = data.decode("utf-8", "surrogateescape")
    found = surroundings.parse_environment(text)
    if any("\0" in name + value or "=" in name or not name for name, value in found.items()):
        raise Finding("no environment takes that")
    with temporary(data) as path:
        if not 0 <= surroundings.login_umask(path) <= 0o777:
            raise Finding("a mask out of range")


class temporary:
    """The bytes, at a path."""

    def __init__(self, data: bytes) -> None:
        self._fd = os.memfd_create("fuzz")
        os.write(self._fd, data)

    def __enter__(self) -> Path:
        return Path(f"/proc/self/fd/{self._fd}")

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


@target(
    raises=(),
    seeds=lambda: [b"\x01\0\0\0\x03\x35\0\0\0\1\x80\0\0\x96\0\0", b"\x9f\0\0\0\0"],
    most=512,
)
def terminal_modes(data: bytes) -> None:
    """Set on a real terminal."""
    master, terminal = os.openpty()
    try:
        tty.set_modes(terminal, data)
        if len(data) >= 16:
            tty.set_size(terminal, *struct.unpack(">IIII", data[:16]))
    finally:
        os.close(master)
        os.close(terminal)


@target(
    seeds=lambda: [
        b'{"user": "alice", "login": "root", "command": "", "started": 1.5, "ended": 2, '
        b'"complete": true}',
        b'{"started": 1e400, "ended": true}',
    ],
)
def facts_of_recordings(data: bytes) -> None:
    """What stands beside a recording, or in its header."""
    import tempfile

    with tempfile.TemporaryDirectory() as there:
        spool = record_spool.RecordSpool(Path(there))
        path = Path(there) / "x.cast"
        facts = path.with_suffix(".json")
        facts.write_bytes(data)
        facts.chmod(0o600)
        path.write_bytes(data + b"\n")
        found = spool._facts(path, data)
        first = record_spool._measured(path)[2]
        if found.started != found.started or first != data.split(b"\n")[0]:
            raise Finding(f"{found}, {first!r}")


@target(raises=(), seeds=lambda: [b"\x1b[2J\xe2\x80\xae name\r\n\t\x07"], most=1024)
def what_is_shown(data: bytes) -> None:
    """Nothing of strangers moves the cursor or fakes a row."""
    text = data.decode("utf-8", "surrogateescape")
    shown, one = show.safe(text), show.line(text)
    if not one.isprintable() or not all(char.isprintable() or char in "\n\t" for char in shown):
        raise Finding(f"{shown!r} does something to a terminal")
    show.table(["a", "b"], [[text, "x"]])


@target(raises=(), seeds=lambda: [_archive()], most=16384)
def own_archive(data: bytes) -> None:
    """The single file reads itself: whole, or it says that it is damaged."""
    unpack = _unpack()
    with temporary(data) as path:
        unpack.start.FILE = str(path)
        try:
            unpack.read_payload()
        except unpack.Refused:
            return
    if data != _archive():
        raise Finding("a changed file was taken for whole")


@cache
def _archive() -> bytes:
    import hashlib

    payload, whole = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(payload, "w") as archive:
        archive.writestr("teleport_lite/__init__.py", "x = 1\n")
    part = payload.getvalue()
    manifest = {
        "targets": {"cp311-x86_64": ["pure"]},
        "digests": {"pure": hashlib.sha256(part).hexdigest()},
    }
    head = b"#!/bin/sh\n# zeros: " + b"0" * 64 + b"\n"
    whole.write(head)
    with zipfile.ZipFile(whole, "a") as archive:
        archive.writestr("BUILD.json", json.dumps(manifest))
        archive.writestr("payload/pure.zip", part)
    raw = whole.getvalue()
    return raw.replace(b"0" * 64, hashlib.sha256(raw).hexdigest().encode(), 1)


@cache
def _unpack() -> Any:
    """It takes what it needs from the file's first code, which is __main__ there."""
    import importlib.util

    start: Any = types.ModuleType("__main__")
    start.TARGET = "cp311-x86_64"
    ours, sys.modules["__main__"] = sys.modules["__main__"], start
    try:
        place = Path(__file__).parent.parent.parent / "packaging" / "boot" / "unpack.py"
        spec = importlib.util.spec_from_file_location("unpack_under_test", place)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.modules["__main__"] = ours
    return module


@target(
    raises=(),
    seeds=lambda: [b"\0\6ohello", b"\0\5r\0P\0\x18\0\x09g" + bytes(7) + b"\5"],
    parts=lambda: any_of([b"\0\3o\xe2\x82", b"\0\2o\xac", b"\0\5r\0P\0\x18"]),
)
def scribe_packets(data: bytes) -> None:
    """What a worker says about its own session becomes a recording that can be played."""
    from teleport_lite.audit import cast
    from teleport_lite.node import scribe

    class Monitor:
        def send(self, message: object) -> None: ...

        def receive(self, kind: object) -> scribe.ToScribe:
            return scribe.ToScribe(room=1 << 20)

    file, pieces = os.memfd_create("fuzz"), Pieces(data)
    try:
        one = scribe.Scribe(line=None, monitor=Monitor(), file=file, strict=False)  # type: ignore[arg-type]
        one._began = scribe.time.monotonic()
        begin = scribe.Begin(
            columns=1, rows=1, term=data.decode("latin-1"), shell="", title="", started=0, facts={}
        )
        one._put(one._header(begin))
        while pieces:
            one._take(pieces.text())
        one._end()
        with os.fdopen(os.dup(file), "rb") as written:
            written.seek(0)
            cast.read_header(written)
            for _ in cast.read_events(written):
                pass
    finally:
        os.close(file)


@target(
    seeds=lambda: [a_file(), a_file(keyring=b"ring", recording=b"said"), backup_file.TITLE],
    parts=lambda: any_of([*a_file().splitlines(keepends=True), b'{"part":"keyring","size":1}\n']),
    most=16384,
)
def backups(data: bytes) -> None:
    """What was read to its end is, byte for byte, what somebody has written."""
    for _ in backup_file.Reader(io.BytesIO(data), "b1").parts():
        pass
    body, last = data[:-72], data[-72:]
    if last != b"sha256 %s\n" % hashlib.sha256(body).hexdigest().encode():
        raise Finding("a backup with another digest was read to its end")


_WORDS = Custody(passphrase=lambda: Secret("correct horse battery staple"), cost=1)


@target(
    raises=(Malformed, Denied),
    seeds=lambda: [_WORDS.close(Keyring([b"k" * 32]).text()), Keyring([b"k" * 32]).text()],
    parts=lambda: any_of(
        [
            b"teleport-lite sealed keyring v1\n",
            b"passphrase scrypt 1 8 2 AAAA\n",
            b"plugin x AAAA\n",
            b"AAAA\n",
        ]
    ),
)
def keyring_files(data: bytes) -> None:
    Keyring.parse(_WORDS.open(data, "keyring x"), "keyring x")
