"""A profile that was made before the host CA was rotated learns the new one from the first ssh
through the proxy, while the old one still vouches for it.

It happens in a process of its own: nobody waits for it, and whether it succeeds is no matter for
the connection. Nothing is imported before it is needed, as in `quick.py`.
"""

import os

_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"


def look(cas: str, cluster: str, digest: str) -> bool:
    """Does a profile, by its file of CAs, know others than the proxy tells of? A file that can
    not be read is for somebody else to tell."""
    from teleport_lite.proto.ca_digest import digest_of

    try:
        with open(cas, encoding="ascii", errors="replace") as file:  # noqa: PTH123  # as quick.py
            blocks = file.read().split(_BEGIN)[1:]
        with open(f"{cas[: -len('.pem')]}.known_hosts", encoding="ascii", errors="replace") as file:  # noqa: PTH123
            lines = file.read().splitlines()
    except OSError:
        return False
    pems = [_BEGIN + block.partition(_END)[0] + _END for block in blocks]
    mark = f"@cert-authority *.{cluster} "
    known = [line.removeprefix(mark) for line in lines if line.startswith(mark)]
    return digest_of(pems, known) != digest


def in_background(home: str, proxy: str) -> None:
    """For the profile of `proxy`. Returns at once."""
    try:
        if os.fork():
            return
    except OSError:
        return
    try:
        _let_go()
        from pathlib import Path

        from teleport_lite.client import profile
        from teleport_lite.client.rotated import refresh

        chosen = profile.named(Path(home), proxy)
        if chosen is not None:
            refresh(Path(home), chosen)
    finally:
        os._exit(0)


def _let_go() -> None:
    """Of the terminal, of ssh's pipes, and of the connection that our parent carries."""
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDWR)
    for fd in range(3):
        os.dup2(nothing, fd)
    os.closerange(3, 256)
