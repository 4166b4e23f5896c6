"""What an address on the network is: of the Internet at large, of an organisation's own network, or of this machine.

For who fetches from an address that somebody else named.
https://cheatsheetseries.owasp.org/cheatsheets/Server_Side_Request_Forgery_Prevention_Cheat_Sheet.html
"""

from __future__ import annotations

import ipaddress

NAT64 = ipaddress.ip_network("64:ff9b::/96")
METADATA = ipaddress.ip_network("fd00:ec2::/32")
"""Where a cloud tells a machine its secrets, in a range that is otherwise private like any other."""
CLOUDS = tuple(map(ipaddress.ip_network, ("192.0.0.0/24", "168.63.129.16/32")))
"""Where clouds (Oracle's, Azure's) do so in what Python takes for the Internet: 192.0.0.192, 168.63.129.16."""


def public(address: str) -> bool:
    """Whether an IP address is one of the Internet at large, whatever it is wrapped in."""
    ip = _unwrapped(address)
    if ip.version == 6 and ip.is_site_local:  # which nobody uses any more, and Python takes for the Internet
        return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved and not any(ip in each for each in CLOUDS)


def private(address: str) -> bool:
    """Whether an IP address is one of an organisation's own network, and neither this machine nor its cloud's."""
    ip = _unwrapped(address)
    if ip.is_loopback or ip.is_link_local or ip.is_multicast or ip.is_reserved or ip.is_unspecified:
        return False
    return ip.is_private and not (ip.version == 6 and ip in METADATA)


def loopback(address: str) -> bool:
    """Whether an IP address is this machine's own."""
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


def literal(host: str) -> bool:
    """Whether a host is an IP address by itself, and no name."""
    try:
        return bool(ipaddress.ip_address(host))
    except ValueError:
        return False


def loopback_name(host: str) -> bool:
    """Whether a host is this machine by name; what others resolve to is seen when they are fetched."""
    return host in ("127.0.0.1", "::1", "localhost")


def _unwrapped(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo and ip.teredo[1])
        if ip in NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        return inner or ip
    return ip
