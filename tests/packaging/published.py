"""Releases on a real HTTPS server on loopback, with a stand-in that notes how it was called."""

import contextlib
import hashlib
import http.server
import json
import os
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from teleport_lite.release.assets import text
from teleport_lite.release.script import Join, stamped

# Places itself as the program does, as far as install.sh looks, and notes each call.
STAND_IN = """\
#!/bin/sh
# teleport-lite {version} (build 0123456789abcdef): a stand-in
import json, os, pathlib, shutil, sys
words = sys.argv[1:]
options = dict(word[2:].partition("=")[::2] for word in words if word.startswith("--"))
source = pathlib.Path(options.get("from", "/nowhere"))
note = {{
    "version": "{version}",
    "words": [word for word in words if not word.startswith("--from=")],
    "from": sorted(path.name for path in source.glob("[!l]*[zSg]")),
    "root": os.environ["TELEPORT_LITE_ROOT"],
    "flags": [sys.flags.isolated, sys.flags.no_site],
    "stdin": sys.stdin.read(),
}}
with open(os.environ["STAND_IN_LOG"], "a") as log:
    log.write(json.dumps(note) + "\\n")
lib = pathlib.Path(options.get("prefix", "/nowhere"), "lib/teleport-lite")
if words[:2] == ["install", "self"] and "--dry-run" not in words:
    (lib / "{version}").mkdir(exist_ok=True)
    shutil.copy(source / "teleport-lite-{version}.pyz", lib / "{version}/teleport-lite.pyz")
    (lib / "new").symlink_to("{version}")
    (lib / "new").rename(lib / "current")
    name = lib.parents[1] / "bin/teleport-lite"
    if not name.exists():
        name.parent.mkdir(exist_ok=True)
        name.symlink_to("../lib/teleport-lite/current/teleport-lite.pyz")
if words[:2] == ["node", "configure"]:
    pathlib.Path(words[-1].removeprefix("file://")).write_text("token: " + options["token"])
"""


@dataclass
class Published:
    """A directory of releases, a server for it, and an environment that trusts that server."""

    directory: Path
    port: int
    certificate: Path
    key: Path  # signs releases; .pub beside it
    log: Path  # of the stand-in
    plain: int = 0  # the port of the same without TLS
    asked: list[str] = field(default_factory=list)
    # By path: instead of the file.
    answers: dict[str, tuple[int, Mapping[str, str], bytes]] = field(default_factory=dict)

    @property
    def base(self) -> str:
        return f"https://localhost:{self.port}/releases"

    def release(
        self, version: str, *, program: bytes | None = None, key: Path | None = None
    ) -> None:
        """Publish and sign it, and make it the latest one."""
        place = self.directory / "releases" / version
        place.mkdir(parents=True, exist_ok=True)
        name = f"teleport-lite-{version}.pyz"
        program = program or STAND_IN.format(version=version).encode()
        (place / name).write_bytes(program)
        digest = hashlib.sha256(program).hexdigest()
        (place / "SHA256SUMS").write_text(f"{'0' * 64}  {name[:-4]}.cdx.json\n{digest}  {name}\n")
        (place.parent / "latest").write_text(f"v{version}\n")
        sign(place / "SHA256SUMS", key or self.key)

    def file(self, name: str) -> Path:
        return self.directory / "releases" / name

    def fresh(self) -> None:
        """No release, no calls."""
        shutil.rmtree(self.directory / "releases", ignore_errors=True)
        self.log.unlink(missing_ok=True)
        self.asked.clear()
        self.answers.clear()

    def script(
        self, *, keys: list[str] | None = None, join: Join | None = None, base: str = ""
    ) -> str:
        keys = [public(self.key)] if keys is None else keys
        return stamped(text("install.sh"), base=base or self.base, keys=keys, join=join)

    def environment(self, home: Path) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "TMPDIR": str(temporary(home)),
            "CURL_CA_BUNDLE": str(self.certificate),
            "SSL_CERT_FILE": str(self.certificate),
            "STAND_IN_LOG": str(self.log),
            "TELEPORT_LITE_PYTHON": "/usr/bin/python3",
        }

    def piped(
        self, home: Path, *words: str, script: str | None = None, **more: str
    ) -> subprocess.CompletedProcess[str]:
        """As `curl ... | bash -s -- words`, into a prefix below `home` unless words say another."""
        if not any(word.startswith("--prefix") for word in words):
            words = (*words, f"--prefix={home}/prefix")
        said = subprocess.run(
            ["bash", "-s", "--", *words],
            input=script or self.script(),
            env=self.environment(home) | more,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert list(temporary(home).iterdir()) == []  # whichever way it ended
        return said

    def calls(self) -> list[dict[str, object]]:
        if not self.log.exists():
            return []
        return [json.loads(line) for line in self.log.read_text().splitlines()]


def temporary(home: Path) -> Path:
    """TMPDIR, with a name that has to be quoted."""
    place = home / "a b*c"
    place.mkdir(parents=True, exist_ok=True)
    return place


def public(key: Path) -> str:
    return " ".join(key.with_name(key.name + ".pub").read_text().split()[:2])


def new_key(path: Path, kind: str = "ed25519") -> Path:
    run("ssh-keygen", "-q", "-t", kind, "-N", "", "-f", str(path))
    return path


def sign(file: Path, key: Path, *options: str, purpose: str = "teleport-lite-release") -> None:
    file.with_name(file.name + ".sig").unlink(missing_ok=True)
    run("ssh-keygen", "-q", "-Y", "sign", "-f", str(key), "-n", purpose, *options, str(file))


def run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True, timeout=60)


@contextlib.contextmanager
def published(place: Path) -> Iterator[Published]:
    """Serve `place`/www. With an authority of its own, whose certificate is the server's."""
    (place / "www").mkdir()
    certificate, key = place / "tls.pem", place / "tls.key"
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    words += ["-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext"]
    words += ["subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", str(key)]
    run(*words, "-out", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    found = Published(
        directory=place / "www",
        port=0,
        certificate=certificate,
        key=new_key(place / "release"),
        log=place / "calls",
    )
    with _serving(found, context) as found.port, _serving(found, None) as found.plain:
        yield found


@contextlib.contextmanager
def _serving(site: Published, context: ssl.SSLContext | None) -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        server.site = site  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


class _Handler(http.server.SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        site: Published = self.server.site  # type: ignore[attr-defined]
        self.directory = str(site.directory)
        secure = isinstance(self.connection, ssl.SSLSocket)
        site.asked.append(self.path if secure else f"http:{self.path}")
        if self.path not in site.answers:
            return super().do_GET()
        status, headers, body = site.answers[self.path]
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        with contextlib.suppress(OSError):  # who has heard enough hangs up
            self.wfile.write(body)
        return None

    def log_message(self, *_: object) -> None:
        pass
