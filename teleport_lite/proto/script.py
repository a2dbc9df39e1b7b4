"""Which scripts a proxy may hand out with a join token in them: it asks, auth knows.

browser, curl                    proxy                                          auth
 | GET /scripts/<token>/...  ->   |                                              |
 |                                | -- POST /v1/tokens/look  TokenLook --------> |
 |                                | <-- TokenView(cluster, pins, labels) ------- |
 | <-- a script                   |                                              |
"""

from teleport_lite.proto.codec import Statement
from teleport_lite.proto.login import Confidential


class TokenLook(Confidential, frozen=True):
    """From a proxy: does this token let a node in, and nothing else?"""

    token: str
    source: str  # IP address of who asks the proxy


class TokenView(Statement, frozen=True):
    """What a host needs beside the token, all of it public."""

    cluster: str
    ca_pins: list[str]  # sha256:..., of the host CAs
    labels: dict[str, str]  # that whoever made the token wants on its hosts
