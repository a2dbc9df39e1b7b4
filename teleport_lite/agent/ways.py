"""Which of the configured addresses are proxies? A host behind one is reached by tunnels.

`--auth-server=proxy.example.com:3080` does not say it, so the address is asked. An answer is
kept: a host that starts while nobody is there goes on as what it was.
"""

import ssl
from collections.abc import Sequence
from pathlib import Path

from teleport_lite.errors import Error
from teleport_lite.net.way import Way, find_way
from teleport_lite.pki.keyfile import read_secret, write_secret
from teleport_lite.proto.codec import Statement, read, write

FILE = "ways.json"
MAX_SIZE = 64 * 1024
# For each address, while the process starts.
PATIENCE = 4.0


class _Stored(Statement, frozen=True):
    cluster: str
    proxies: list[str]  # as configured, host:port


def find_ways(
    servers: Sequence[str], *, cluster: str, data_dir: Path, only_proxies: bool = False
) -> tuple[Way, ...]:
    """One for each of `servers`, in order; those of proxies carry `cluster`, which is ours.

    With `only_proxies`, as `--proxy` says, nobody is asked. Raises nothing for who is away, and
    as `write_secret` when the answer can not be kept.
    """
    if only_proxies:
        return tuple(Way(address, cluster) for address in servers)
    before = _load(data_dir, cluster)
    proxies = [address for address in servers if _is_proxy(address, address in before)]
    if set(proxies) != before:
        write_secret(data_dir / FILE, write(_Stored(cluster=cluster, proxies=proxies)))
    return tuple(Way(each, cluster if each in proxies else "") for each in servers)


def behind_proxies(ways: Sequence[Way]) -> bool:
    """Is every way to auth through a proxy? Then nobody can be expected to reach us either."""
    return bool(ways) and all(way.cluster for way in ways)


def _is_proxy(address: str, before: bool) -> bool:
    try:
        return bool(find_way(address, timeout=PATIENCE).cluster)
    except (Error, ssl.SSLError):
        return before


def _load(data_dir: Path, cluster: str) -> set[str]:
    """What was kept of this cluster. A file that can not be read is asked for again, no more."""
    try:
        kept = read(_Stored, read_secret(data_dir / FILE, limit=MAX_SIZE), limit=MAX_SIZE)
    except Error:
        return set()
    return set(kept.proxies) if kept.cluster == cluster else set()
