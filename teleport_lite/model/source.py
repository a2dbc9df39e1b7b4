"""Who counts as one stranger, for limits."""

import ipaddress


def source_of(address: str) -> str:
    """An IPv4 address, or the IPv6 /64 that a single customer is given. Other words stay."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return str(ip.ipv4_mapped)
        return str(ipaddress.ip_network((ip, 64), strict=False))
    return str(ip)
