"""Which network an address is in: before a connection goes to one that somebody else has named.

https://www.iana.org/assignments/iana-ipv4-special-registry, https://owasp.org/www-community/attacks/Server_Side_Request_Forgery
"""

from __future__ import annotations

import ipaddress

NAT64 = ipaddress.ip_network("64:ff9b::/96")
METADATA = ipaddress.ip_network("fd00:ec2::/32")
"""Where a cloud tells a machine its secrets, in a range that is otherwise private like any other."""


def public(address: str) -> bool:
    """Whether an IP address is one of the Internet at large, whatever it is wrapped in."""
    ip = _unwrapped(address)
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


def private(address: str) -> bool:
    """Whether an IP address is one of an organisation's own network, and neither this machine nor its cloud's."""
    ip = _unwrapped(address)
    if ip.is_loopback or ip.is_link_local or ip.is_multicast or ip.is_reserved or ip.is_unspecified:
        return False
    return ip.is_private and not (ip.version == 6 and ip in METADATA)


def _unwrapped(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo and ip.teredo[1])
        if ip in NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        return inner or ip
    return ip


def loopback_name(host: str) -> bool:
    """Whether a host is this machine by name; what others resolve to is seen when they are fetched."""
    return host in ("127.0.0.1", "::1", "localhost")
