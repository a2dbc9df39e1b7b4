"""TLS contexts: 1.3 only, no tickets, peers proved by our own CAs.

No tickets because a resumed session skips the client certificate: a server of Python's ssl
module lets a client in whose certificate has expired since (measured, docs/threat-model.md).
"""

import os
import ssl
from collections.abc import Sequence

from teleport_lite.errors import Malformed
from teleport_lite.secret import Secret

Context = ssl.SSLContext  # for those who pass one on and never look into it


def server_context(
    cert_pem: str, key: Secret, client_cas: Sequence[str], *, ask_for_certificate: bool = True
) -> ssl.SSLContext:
    """For listeners. A client certificate is optional here; the route decides (`auth/api.py`)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _harden(context)
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET
    _load_identity(context, cert_pem, key)
    if ask_for_certificate:
        context.verify_mode = ssl.CERT_OPTIONAL
        context.load_verify_locations(cadata="\n".join(client_cas))
    return context


def web_context(cert_pem: str, key: Secret) -> Context:
    """For browsers and curl: TLS 1.2 too, with forward secrecy and AEAD only (RFC 9325 §4.2)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _harden(context)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
    context.num_tickets = 0
    _load_identity(context, cert_pem, key)
    context.set_alpn_protocols(["http/1.1"])
    return context


def client_context(
    cert_pem: str | None, key: Secret | None, server_cas: Sequence[str]
) -> ssl.SSLContext:
    """For connections to our own servers, which must show a certificate of one of `server_cas`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _harden(context)
    # A pinned intermediate-free CA is a trust anchor whether or not it is self-signed.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cadata="\n".join(server_cas))
    if cert_pem is not None and key is not None:
        _load_identity(context, cert_pem, key)
    return context


def stranger_context() -> ssl.SSLContext:
    """Trusts nobody and checks nothing: only for fetching public words that are checked after."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _harden(context)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _harden(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.options |= ssl.OP_NO_COMPRESSION


def _load_identity(context: ssl.SSLContext, cert_pem: str, key: Secret) -> None:
    """ssl reads keys from files only; an unnamed memory file keeps the key off the disk."""
    handle = os.memfd_create("tls-identity", os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(handle), "wb") as file:
            file.write(cert_pem.encode() + b"\n" + key.reveal().encode())
        # Without `password` OpenSSL would ask the terminal for that of an encrypted key.
        context.load_cert_chain(f"/proc/self/fd/{handle}", password=_nothing)
    except (ssl.SSLError, ValueError) as why:
        raise Malformed("certificate and key of this host do not fit together") from why
    finally:
        os.close(handle)


def _nothing() -> str:
    return ""
