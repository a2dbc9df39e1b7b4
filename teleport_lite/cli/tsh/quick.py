"""`tsh proxy ssh` in the form that `tsh ssh` and `tsh config` write: the path of every ssh.

    tsh proxy ssh --proxy=HOST:PORT --cluster=NAME --user=NAME LOGIN@HOST:PORT

It reads two files and asks the proxy. Reading flags with typer would take three times as long
as all that; anything else that is typed goes that way.
"""

import os
import stat
from collections.abc import Callable

_FLAGS = ("--proxy", "--cluster", "--user")


def quick(words: list[str]) -> int | None:
    """The exit code; None if these words have to be read in full, or something is not as it
    should be: the long way tells what."""
    found = _read(words)
    if found is None:
        return None
    tls, cas, host, port = found
    from teleport_lite.client.reach import carry, context_of
    from teleport_lite.errors import Error

    try:
        context = context_of(tls, cas)
    except OSError:  # ssl.SSLError too
        return None
    try:
        asked = asked_of(words[-1], _value(words, "--cluster"))
        if not cas.endswith(f"/{_value(words, '--cluster')}.pem"):
            from teleport_lite.client.leaf_proof import proof_by_file

            asked["proof"] = proof_by_file(asked, tls)
        carry((host, port), context, asked, on_cas=_catching_up(cas, words))
    except KeyboardInterrupt:
        return 130
    except Error as why:
        from teleport_lite.cli.exit import explain

        return explain(why)
    return 0


def _catching_up(cas: str, words: list[str]) -> Callable[[str], None]:
    """For when the proxy tells of other CAs than the profile knows."""

    def on_cas(digest: str) -> None:
        from teleport_lite.cli.tsh import catch_up

        if catch_up.look(cas, _value(words, "--cluster"), digest):
            keys, _, _ = cas.rpartition("/cas/")
            home, _, proxy = keys.rpartition("/keys/")
            catch_up.in_background(home, proxy)

    return on_cas


def asked_of(target: str, cluster: str) -> dict[str, object]:
    """A `ReachRequest` (proto/reach.py) for `[login@]host[:port]`."""
    login, _, rest = target.rpartition("@")
    host, colon, port = rest.rpartition(":")
    if not colon or not port.isdecimal() or len(port) > 5:
        host, port = rest, "0"
    host = host.removeprefix("[").removesuffix("]")
    ending = f".{cluster}".lower()
    if host.lower().endswith(ending):
        host = host[: -len(ending)]
    return {"host": host, "port": int(port), "login": login, "cluster": cluster}


def _read(words: list[str]) -> tuple[str, str, str, int] | None:
    """Files of key and CAs, host and port of the proxy."""
    names = [word.partition("=")[0] for word in words[:-1]]
    if sorted(names) != sorted(_FLAGS) or words[-1].startswith("-"):
        return None
    host, _, port = _value(words, "--proxy").rpartition(":")
    user, cluster = _value(words, "--user"), _value(words, "--cluster")
    host = host.removeprefix("[").removesuffix("]")
    if not port.isdecimal() or not (host and user and cluster) or "/" in host + user + cluster:
        return None
    home = os.environ.get("TELEPORT_HOME") or os.path.expanduser("~/.tsh")  # noqa: PTH111  # pathlib takes 6 ms
    keys = f"{home}/keys/{host}"
    tls, cas = f"{keys}/{user}-x509.pem", f"{keys}/cas/{_root_of(keys, cluster)}.pem"
    return (tls, cas, host, int(port)) if _private(tls) else None


def _root_of(keys: str, cluster: str) -> str:
    """The cluster whose proxy is asked: of a leaf its root (client/leaves.py)."""
    try:
        with open(f"{keys}/cas/{cluster}.leaf", encoding="ascii") as file:  # noqa: PTH123  # pathlib takes 6 ms
            root = file.read(256).strip()
    except (OSError, ValueError):
        return cluster
    return cluster if "/" in root or not root else root


def _private(path: str) -> bool:
    try:
        found = os.lstat(path)
    except OSError:
        return False
    mine = found.st_uid in (0, os.geteuid()) and stat.S_ISREG(found.st_mode)
    return mine and not found.st_mode & 0o077


def _value(words: list[str], flag: str) -> str:
    return next(word.partition("=")[2] for word in words if word.startswith(f"{flag}="))
