"""Where a connection may go: public addresses, and the proxy on the way there."""

from __future__ import annotations

import ipaddress
import socket
from contextlib import suppress
from urllib.parse import urlsplit
from urllib.request import getproxies_environment

#: Prefixes that carry an IPv4 address: NAT64, both kinds (Source: RFC 6052,
#: RFC 8215). A translator behind them would connect to the one that is carried.
_NAT64 = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("64:ff9b:1::/48"))

#: IPv4 protocol assignments and relays that Python holds for public.
_SPECIAL = (ipaddress.IPv4Network("192.0.0.0/24"), ipaddress.IPv4Network("192.88.99.0/24"))

#: The old site-local addresses, which Python knows by another question.
_SITE_LOCAL = ipaddress.IPv6Network("fec0::/10")


def name_customer(address: str) -> str:
    """Return what counts together of an address: an IPv6 customer has a /64 of addresses."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    if parsed.version == 4:
        return str(parsed)
    if parsed.ipv4_mapped:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((int(parsed), 64), strict=False))


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


#: Kinds of proxies. ``socks5h`` has the proxy resolve names.
PROXY_SCHEMES = ("http", "https", "socks5", "socks5h", "socks4", "socks4a")


def find_proxy(url: str, proxy: str | None = None) -> str | None:
    """Return the address of the proxy through which a URL is asked; None: directly.

    :param proxy: A proxy for every URL, without exceptions; empty: none. None: what
        ``HTTP_PROXY``, ``HTTPS_PROXY``, ``ALL_PROXY`` and ``NO_PROXY`` say, or their names in
        lower case, which win. They never lead to this machine's own addresses, and
        ``NO_PROXY`` also takes networks (``10.0.0.0/8``).
    :raises ValueError: for a proxy of an unknown kind.
    """
    if proxy is None:
        parts, proxies = urlsplit(url), getproxies_environment()
        proxy = proxies.get(parts.scheme) or proxies.get("all", "")
        if proxy and _is_exempt(parts.hostname or "", parts.port, proxies.get("no", "")):
            return None
    if not proxy:
        return None
    if "://" not in proxy:
        proxy = f"http://{proxy}"
    if proxy.startswith("socks://"):
        proxy = f"socks5h{proxy.removeprefix('socks')}"
    if urlsplit(proxy).scheme not in PROXY_SCHEMES:
        raise ValueError(f"the address of a proxy must begin with {', '.join(PROXY_SCHEMES)}")
    return proxy


def _is_exempt(host: str, port: int | None, no_proxy: str) -> bool:
    """Return whether the environment's proxy is not for a host."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    address = None
    with suppress(ValueError):
        address = ipaddress.ip_address(host.partition("%")[0])
        if address.is_loopback or address.is_unspecified:
            return True
    for one in filter(None, map(str.strip, no_proxy.lower().split(","))):
        name = one.removeprefix("*").lstrip(".")
        if one == "*" or name in (host, f"{host}:{port}") or host.endswith(f".{name}"):
            return True
        if address is not None:
            with suppress(ValueError):
                if address in ipaddress.ip_network(one, strict=False):
                    return True
    return False
