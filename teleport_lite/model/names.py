"""What may be called what. Nothing else reaches a certificate, a file name or a log line."""

import re

from teleport_lite.errors import Malformed

# RFC 1123 host names; also what OpenSSH and X.509 take as a principal without quoting.
HOST_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
# Cluster names stand inside DNS names and known_hosts patterns ("*.<cluster>").
CLUSTER_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,126}[A-Za-z0-9])?")
# Login names of the system (useradd's rule). Commas, "@" and "*" could be read as lists.
LOGIN = re.compile(r"[a-zA-Z_][a-zA-Z0-9_.-]{0,31}")
# Users of the cluster: e-mail addresses are common.
USER_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,127}")
RESOURCE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:@+-]{0,127}")
# Names that certificates of this program give a meaning to; no host may be called like that.
RESERVED_SUFFIX = ".teleport-lite.internal"
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
# Join tokens are typed, mailed, put into YAML and shells; none of these needs quoting.
TOKEN = re.compile(r"[A-Za-z0-9._-]{8,128}")


def checked(pattern: re.Pattern[str], value: str, what: str, *, example: str) -> str:
    """`value`, or Malformed naming `what` and showing a right one. The value is shown escaped."""
    if pattern.fullmatch(value):
        return value
    shown = ascii(value[:64])
    raise Malformed(f"{what} {shown} is not valid, expected something like {example!r}")


def checked_host_name(value: str, what: str) -> str:
    """A name a host may choose. Raises Malformed for UUIDs and reserved names: a certificate

    for one of those would make it pass for another host, or for auth itself.
    """
    checked(HOST_NAME, value, what, example="web-1")
    lower = value.lower()
    if lower.endswith(RESERVED_SUFFIX) or UUID.match(lower):
        raise Malformed(f"{what} {value[:64]!a} is reserved, choose another")
    return value
