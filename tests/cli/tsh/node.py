"""A node of OpenSSH's: an sshd with a host certificate, which takes certificates of users."""

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from teleport_lite.testing.certs import PaperCluster
from tests.support import eventually, free_port

BINARY = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:" + os.environ.get("PATH", ""))
LOGIN = pwd.getpwuid(os.getuid()).pw_name
_CONFIG = """\
ListenAddress 127.0.0.1:{port}
HostKey {dir}/host_key
HostCertificate {dir}/host_key-cert.pub
TrustedUserCAKeys {dir}/cas
AuthorizedKeysFile none
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
UsePAM no
StrictModes no
PidFile none
Subsystem sftp internal-sftp
"""


@contextmanager
def node(
    cluster: PaperCluster,
    directory: Path,
    name: str = "web-1",
    *,
    host_id: str = "",
    more: str = "",
) -> Iterator[int]:
    """Yields its port. `more` is added to its configuration."""
    assert BINARY
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd insists on it
    directory.mkdir(exist_ok=True)
    papers, port = cluster.host(name, host_id=host_id), free_port()
    key = directory / "host_key"
    key.write_text(papers.ssh_private.reveal())
    key.chmod(0o600)
    (directory / "host_key-cert.pub").write_text(papers.ssh_cert)
    (directory / "cas").write_text(cluster.user_ca.public.ssh_key)
    (directory / "config").write_text(_CONFIG.format(port=port, dir=directory) + more)
    with (directory / "log").open("wb") as log:
        server = subprocess.Popen([BINARY, "-D", "-e", "-f", directory / "config"], stderr=log)
    try:
        eventually(lambda: b"Server listening" in (directory / "log").read_bytes())
        yield port
    finally:
        server.terminate()
        server.wait(30)
