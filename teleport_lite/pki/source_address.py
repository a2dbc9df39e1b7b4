"""The list in the `source-address` option of a certificate, read as OpenSSH's sshd reads it.

sshd refuses a certificate when any entry of the list is wrong, even after one that matches
(addr_match_cidr_list in its match.c). So do we, and some spellings it takes are refused too:
fewer addresses in, never more.
"""

import ipaddress
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address

_CHARACTERS = frozenset("0123456789abcdefABCDEF.:/,")
# A list of offices, not of hosts; a certificate stays below its size limit.
_MOST = 64


def read_networks(text: str) -> tuple[Network, ...]:
    """ "192.0.2.0/24,2001:db8::/32" or single addresses. Raises ValueError for anything else.

    Host bits below the mask are an error, as in sshd; so are spaces, netmasks and zone names.
    """
    if not set(text) <= _CHARACTERS:
        raise ValueError("source-address is not a list of networks")
    entries = text.split(",")
    if len(entries) > _MOST:
        raise ValueError(f"source-address has more than {_MOST} networks")
    return tuple(_network(entry) for entry in entries)


def read_address(text: str) -> Address:
    """A peer's address; IPv4 inside IPv6 (::ffff:192.0.2.1) is IPv4. Raises ValueError."""
    address = ipaddress.ip_address(text)
    return getattr(address, "ipv4_mapped", None) or address


def matches(networks: tuple[Network, ...], address: Address) -> bool:
    # An IPv4 address is in no IPv6 network, nor the other way round.
    return any(address in each for each in networks)


def _network(entry: str) -> Network:
    _, slash, bits = entry.partition("/")
    # ipaddress would also read "10.0.0.0/255.0.0.0", which sshd refuses.
    if slash and not (bits.isdigit() and len(bits) <= 3):
        raise ValueError("source-address has a mask that is not a number of bits")
    return ipaddress.ip_network(entry, strict=True)
