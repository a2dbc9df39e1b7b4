"""What `tctl auth sign` makes and writes: keys of our own, certificates of theirs, as files."""

from pathlib import Path

from teleport_lite.cli.tctl.shape import Shape
from teleport_lite.client import identity_file
from teleport_lite.client.facts import Facts
from teleport_lite.errors import Conflict
from teleport_lite.pki import keys
from teleport_lite.pki.keyfile import write_public, write_secret
from teleport_lite.secret import Secret

_ENDINGS = {
    Shape.FILE: ("",),
    Shape.OPENSSH: ("", "-cert.pub"),
    Shape.TLS: (".key", ".crt", ".cas"),
}


class Parcel:
    """Looks for what is in the way first: nothing is signed that could not be written."""

    def __init__(self, to: str, shape: Shape, *, overwrite: bool) -> None:
        self._shape, self._overwrite = shape, overwrite
        self._paths = [Path(to + ending) for ending in _ENDINGS[shape]]
        for path in self._paths:
            if path.is_symlink() or (path.exists() and not overwrite):
                raise _in_the_way(path)
        if shape is Shape.OPENSSH:
            self._ssh, self._ssh_public = keys.new_ssh_key()
        else:
            self._ssh, self._ssh_public = keys.new_portable_ssh_key()
        self._tls = keys.new_tls_key()

    def request(self, name: str) -> dict[str, str]:
        """The public halves, as the API takes them."""
        return {"ssh_key": self._ssh_public, "tls_csr": keys.csr(self._tls, name)}

    def write(self, signed: Facts) -> list[str]:
        """Returns the names of the files, the private key's first."""
        for path, (data, secret) in zip(self._paths, self._contents(signed), strict=True):
            self._put(path, data, secret=secret)
        return [str(path) for path in self._paths]

    def try_it(self, signed: Facts) -> str:
        """A way to use them; "" if there is none that a line can show."""
        if self._shape is Shape.TLS:
            return ""
        host = f"NODE.{signed.text('cluster')}"
        return (
            "> tctl auth export --type=host > known_hosts\n"
            f"> ssh -i {self._paths[0]} -o UserKnownHostsFile=known_hosts "
            f"-o HostKeyAlias={host} -p 3022 LOGIN@ADDRESS\n"
        )

    def _contents(self, signed: Facts) -> list[tuple[bytes, bool]]:
        ssh_cert, tls_cert = signed.text("ssh_cert").strip(), signed.text("tls_cert")
        if self._shape is Shape.OPENSSH:
            return [(_bytes(self._ssh), True), (f"{ssh_cert}\n".encode(), False)]
        cas = signed.texts("host_cas")
        if self._shape is Shape.TLS:
            return [
                (_bytes(self._tls), True),
                (tls_cert.encode(), False),
                ("".join(cas).encode(), False),
            ]
        whole = identity_file.IdentityFile(
            cluster=signed.text("cluster"),
            ssh_private=self._ssh,
            ssh_cert=ssh_cert,
            tls_private=self._tls,
            tls_cert=tls_cert,
            ssh_host_cas=tuple(signed.texts("ssh_host_cas")),
            host_cas=tuple(cas),
        )
        return [(identity_file.write(whole), True)]

    def _put(self, path: Path, data: bytes, *, secret: bool) -> None:
        if not self._overwrite:  # link(2) decides, whatever appeared since we looked
            write_public(path, data, mode=0o600 if secret else 0o644, replace=False)
        elif secret:
            write_secret(path, data)
        else:
            write_public(path, data)


def _bytes(key: Secret) -> bytes:
    return key.reveal().encode()


def _in_the_way(path: Path) -> Conflict:
    what = "is a symbolic link" if path.is_symlink() else "exists already"
    return Conflict(f"{path} {what}", hint="tctl auth sign --overwrite, or another --out")
