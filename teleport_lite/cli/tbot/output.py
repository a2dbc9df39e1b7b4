"""What a bot leaves for the programs it works for: one directory with the usual names.

    identity             everything in one file, for tctl -i and ssh -i
    key, key.pub         one key, for SSH and TLS
    key-cert.pub         its SSH certificate
    tlscert              its TLS certificate
    teleport-host-ca.crt, teleport-user-ca.crt
    ssh_config           ssh -F <directory>/ssh_config login@host
    known_hosts          whom that ssh believes

Each file is replaced in one step. The key comes right before its certificates: a program that
reads in between sees a pair that does not fit, fails, and succeeds when it tries again;
`identity` is whole at every moment.
"""

from pathlib import Path

from teleport_lite.agent.identity import Identity
from teleport_lite.client import identity_file
from teleport_lite.pki.keyfile import make_private_dir, write_public, write_secret

NODE_PORT = 3022


def write(directory: Path, identity: Identity) -> None:
    """Raises Denied for a directory that others may enter, Unavailable when it can not write."""
    make_private_dir(directory)
    for name, text in (_public(directory, identity)).items():
        write_public(directory / name, text.encode())
    write_secret(directory / "identity", identity_file.write(_whole(identity)))
    write_secret(directory / "key", identity.ssh_private.reveal().encode())
    write_public(directory / "key-cert.pub", f"{identity.ssh_cert.strip()}\n".encode())
    write_public(directory / "tlscert", identity.tls_cert.encode())
    write_public(directory / "key.pub", f"{identity.ssh_public.strip()}\n".encode())


def _public(directory: Path, identity: Identity) -> dict[str, str]:
    return {
        "teleport-host-ca.crt": "".join(identity.host_cas),
        "teleport-user-ca.crt": "".join(identity.user_cas),
        "known_hosts": known_hosts(identity),
        "ssh_config": ssh_config(directory),
    }


def known_hosts(identity: Identity) -> str:
    """`*`, because nodes are reached by address and by bare name, too.

    Only the ssh_config beside it reads this file, and the name that was typed must stand in the
    host's certificate.
    """
    return "".join(f"@cert-authority * {line.strip()}\n" for line in identity.ssh_host_cas)


def ssh_config(directory: Path) -> str:
    """Nothing but certificates, no question asked and no key learnt (ssh_config(5))."""
    return f"""\
# Written by tbot. To use it: ssh -F "{directory}/ssh_config" LOGIN@HOST
Host *
    Port {NODE_PORT}
    IdentityFile "{directory}/key"
    CertificateFile "{directory}/key-cert.pub"
    IdentitiesOnly yes
    IdentityAgent none
    UserKnownHostsFile "{directory}/known_hosts"
    GlobalKnownHostsFile /dev/null
    StrictHostKeyChecking yes
    UpdateHostKeys no
    PasswordAuthentication no
    KbdInteractiveAuthentication no
"""


def _whole(identity: Identity) -> identity_file.IdentityFile:
    return identity_file.IdentityFile(
        cluster=identity.cluster,
        ssh_private=identity.ssh_private,
        ssh_cert=identity.ssh_cert,
        tls_private=identity.tls_private,
        tls_cert=identity.tls_cert,
        ssh_host_cas=identity.ssh_host_cas,
        host_cas=identity.host_cas,
    )
