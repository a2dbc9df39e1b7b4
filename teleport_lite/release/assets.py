"""Files that travel in the program and are no code: install.sh, systemd units, release keys.

In the single file and its trees they are in `teleport_lite/assets/` (packaging/contents.py puts
them there); in a checkout they are where people edit them.
"""

from pathlib import Path

from teleport_lite.errors import NotFound

_PACKAGE = Path(__file__).parent.parent
# The public keys that sign releases, a line each; put there by `packaging/build.py --sign`.
KEYS = "release-keys.pub"


def text(name: str) -> str:
    """Of `install.sh`, `systemd/teleport-lite.service`... Raises NotFound."""
    for root in (_PACKAGE / "assets", _PACKAGE.parent):
        path = root / name
        if path.is_file():
            return path.read_text(encoding="utf-8")
    raise NotFound(f"{name} is not part of this build")


def release_keys() -> tuple[str, ...]:
    """OpenSSH public keys ("ssh-ed25519 AAAA..."), none in a build that nobody has signed."""
    try:
        lines = text(KEYS).splitlines()
    except NotFound:
        return ()
    return tuple(" ".join(line.split()[:2]) for line in lines if line.startswith("ssh-ed25519 "))
