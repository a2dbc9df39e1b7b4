"""Where machines of a test download from: a CA they trust, releases, and a web server."""

import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.machines.machine import Machine
from tests.machines.wires import STREET, Street
from tests.packaging.conftest import copy_sources
from tests.support import eventually

NAME = "get.example.com"
BASE = f"https://{NAME}"
# What is built: the checkout as it is, the one after it, and one that starts nothing.
FIRST, SECOND, BROKEN = "9.0.1", "9.0.2", "9.0.3"
_SERVER = """\
import http.server, ssl, sys
directory, address, certificate, key = sys.argv[1:]
class Files(http.server.SimpleHTTPRequestHandler):
    def __init__(self, *words): super().__init__(*words, directory=directory)
server = http.server.ThreadingHTTPServer((address, 443), Files)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""


class Authority:
    """A CA of the web, that the machines of a test trust and nobody else does."""

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(exist_ok=True)
        self.file = root / "ca.pem"
        usage = ("-addext", "keyUsage=critical,keyCertSign,cRLSign")  # Python 3.13 looks for it
        self._openssl("ca", "/CN=A CA of tests", *usage)
        self.subject = subprocess.check_output(
            ["openssl", "x509", "-in", str(self.file), "-noout", "-subject_hash"], text=True
        ).strip()

    def certificate(self, name: str) -> tuple[Path, Path]:
        """For a host of that name: the certificate, and its key."""
        signer = ("-CA", str(self.file), "-CAkey", str(self._root / "ca.key"))
        wanted = (f"subjectAltName=DNS:{name}", "basicConstraints=critical,CA:FALSE")
        extensions = [word for each in wanted for word in ("-addext", each)]
        self._openssl(name, f"/CN={name}", *signer, *extensions)
        return self._root / f"{name}.pem", self._root / f"{name}.key"

    def trusted_by(self, machine: Machine) -> None:
        """As update-ca-certificates(8) does it, which takes a second."""
        text = self.file.read_text()
        machine.write(f"/etc/ssl/certs/{self.subject}.0", text)
        bundle = "/etc/ssl/certs/ca-certificates.crt"
        machine.write(bundle, machine.read(bundle) + text)

    def _openssl(self, name: str, subject: str, *more: str) -> None:
        words = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        words += ["-keyout", str(self._root / f"{name}.key"), "-days", "30", "-subj", subject]
        words += ["-out", str(self._root / f"{name}.pem"), *more]
        done = subprocess.run(["openssl", *words], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


@contextlib.contextmanager
def published(street: Street, authority: Authority, directory: Path) -> Iterator[None]:
    """Serve `directory` as https://get.example.com/ on the street."""
    certificate, key = authority.certificate(NAME)
    words = [sys.executable, "-c", _SERVER, str(directory), STREET, str(certificate), str(key)]
    server = subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", *street.hub.inside(*words)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    ask = street.hub.inside("curl", "-fsS", "--cacert", str(authority.file), "-o", "/dev/null")
    ask += ["--resolve", f"{NAME}:443:{STREET}", f"{BASE}/"]
    try:
        eventually(lambda: subprocess.run(ask, capture_output=True).returncode == 0, what=BASE)
        yield
    finally:
        server.kill()
        server.wait()


class Releases:
    """Signed releases of the checkout, made once for a whole run however many workers there are.

    `choose` lists those that a server shall offer, in a directory of its own.
    """

    def __init__(self, shared: Path, python: str) -> None:
        self._root = shared / f"releases-{python}"
        self._target = f"{python}-{os.uname().machine}"
        self._root.mkdir(exist_ok=True)
        with self._alone():
            self._key = self._root / "key"
            if not self._key.exists():
                words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f"]
                subprocess.run([*words, str(self._key)], check=True)
            if not (self._root / "sources").exists():
                copy_sources(self._root / "sources")

    def offer(self, directory: Path, version: str) -> None:
        """Add `version` to what `directory` offers, as the latest."""
        made = self._made(version)
        directory.mkdir(exist_ok=True)
        shutil.copytree(made / version, directory / version)
        for name in ("install.sh", "latest"):
            shutil.copy(made / name, directory / name)

    def program(self, version: str) -> Path:
        return self._made(version) / version / f"teleport-lite-{version}.pyz"

    def _made(self, version: str) -> Path:
        place = self._root / version
        with self._alone():
            if not place.exists():
                self._make(version, place)
        return place

    def _make(self, version: str, place: Path) -> None:
        sources = self._root / "sources"
        package = sources / "teleport_lite"
        stated = package / "__init__.py"
        stated.write_text(
            re.sub(
                r'^__version__ = ".*"$',
                f'__version__ = "{version}"',
                stated.read_text(),
                flags=re.M,
            )
        )
        run = package / "daemon" / "run.py"
        kept = run.read_text()
        if version != FIRST:  # which is packed as it will be published; this takes seconds
            build = sources / "packaging" / "build.py"
            build.write_text(build.read_text().replace("ZIP_DEFLATED, 6", "ZIP_DEFLATED, 1"))
        if version == BROKEN:
            run.write_text(
                kept
                + '\n\ndef run(*_: object, **__: object) -> int:\n    raise OSError("broken")\n'
            )
        words = [sys.executable, str(sources / "packaging" / "build.py"), "--release"]
        words += ["--sign", str(self._key), "--base", BASE, "--target", self._target]
        unready = place.with_suffix(".new")
        done = subprocess.run(
            [*words, "--output-dir", str(unready)], capture_output=True, text=True
        )
        run.write_text(kept)
        assert done.returncode == 0, done.stderr
        unready.rename(place)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        with (self._root / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
