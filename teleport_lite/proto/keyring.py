"""What a further auth server asks of the first one, over mutual TLS, right after its join.

host with role Auth                                       auth
 | -- POST /v1/auth/keyring {} --------------------------> |   in the audit trail
 | <-- KeyringCopy(text) --------------------------------  |
"""

from teleport_lite.proto.codec import Statement

PATH = "/v1/auth/keyring"
MAX_COPY = 96 * 1024


class KeyringCopy(Statement, frozen=True):
    text: str  # the file as it is: a secret, unless it is sealed
