"""What a TLS connection to a proxy is for, said in its first packet (ALPN, RFC 7301).

The proxy looks at these names, and at the server name (SNI, RFC 6066 §3), before it decides
whether to answer by itself or to pass the bytes on without opening them.
"""

# To auth, end to end: the proxy passes the bytes on. The name of the cluster follows.
AUTH = "teleport-auth@"
# An agent brings a tunnel. The server name says to which proxy.
TUNNEL = "teleport-reversetunnel"
# Offered beside it: to that proxy alone. Another one refuses instead of passing it on. Nobody
# ever selects it, and a proxy that does not know it passes on as ever.
DIRECT = "teleport-lite-direct"
# Offered beside it: the tunnel of a leaf cluster (proto/trust.py). Never selected either.
LEAF = "teleport-lite-leaf"
# Somebody wants the SSH port of a node (proto/reach.py).
SSH = "teleport-proxy-ssh"
# A certificate authority looks whether this host has the name (RFC 8737).
ACME = "acme-tls/1"

# Certificates of auth carry it, and no other host's do: a stolen host key cannot play auth.
AUTH_SERVER_NAME = "auth.teleport-lite.internal"
# The same for proxies.
PROXY_SERVER_NAME = "proxy.teleport-lite.internal"


def to_auth(cluster: str) -> str:
    """The ALPN name of a connection to the auth server of `cluster`."""
    return f"{AUTH}{cluster}"


def proxy_name(host_id: str) -> str:
    """The server name of one proxy among several behind the same address."""
    return f"{host_id}.{PROXY_SERVER_NAME}"


def proxy_of(server_name: str) -> str:
    """The UUID in a name that `proxy_name` made; "" if it is another name."""
    host_id, dot, rest = server_name.partition(".")
    return host_id if dot and rest == PROXY_SERVER_NAME else ""
