"""Which network addresses a model may have the server connect to."""

from __future__ import annotations

import ipaddress
import socket

#: Prefixes that carry an IPv4 address: NAT64, both kinds (Source: RFC 6052,
#: RFC 8215). A translator behind them would connect to the one that is carried.
_NAT64 = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("64:ff9b:1::/48"))

#: IPv4 protocol assignments and relays that Python holds for public.
_SPECIAL = (ipaddress.IPv4Network("192.0.0.0/24"), ipaddress.IPv4Network("192.88.99.0/24"))

#: The old site-local addresses, which Python knows by another question.
_SITE_LOCAL = ipaddress.IPv6Network("fec0::/10")


def is_public(text: str) -> bool:
    """Return whether an address is one of the public internet.

    Private, loopback, link-local, shared (CGNAT), multicast, reserved and
    unspecified ones are not, and neither is an IPv6 address that carries an
    IPv4 address which is not.
    """
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    if not address.is_global or address.is_multicast or address.is_reserved:
        return False
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _SPECIAL)
    if address in _SITE_LOCAL:
        return False
    carried = _find_carried(address)
    return carried is None or is_public(str(carried))


def _find_carried(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """Return the IPv4 address that an IPv6 address stands for, or None."""
    last = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if address.ipv4_mapped or address.sixtofour:
        return address.ipv4_mapped or address.sixtofour
    if address.teredo:
        return address.teredo[1]
    # Below 2**32 is the old IPv4-compatible form.
    if int(address) < 2**32 or any(address in network for network in _NAT64):
        return last
    return None


def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of a host name, in the order to try them.

    :raises OSError: when it has none.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(one[4][0]) for one in found))
