"""Checks of network addresses, and choice of a proxy."""

from __future__ import annotations

import ipaddress
import socket
from contextlib import suppress
from urllib.parse import urlsplit
from urllib.request import getproxies_environment

#: Options of outgoing connections, to detect a host that is gone without closing them: it moved, or
#: a firewall has forgotten the idle connection. Other systems lack some of these options.
SOCKET_OPTIONS = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)] + [
    (socket.IPPROTO_TCP, getattr(socket, name), value)
    for name, value in (
        ("TCP_KEEPIDLE", 15),
        ("TCP_KEEPINTVL", 5),
        ("TCP_KEEPCNT", 3),
        ("TCP_USER_TIMEOUT", 30_000),
    )
    if hasattr(socket, name)
]

#: NAT64 prefixes, whose addresses contain an IPv4 address (Source: RFC 6052,
#: RFC 8215). A NAT64 gateway would connect to that IPv4 address.
_NAT64 = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("64:ff9b:1::/48"))

#: IPv4 protocol assignments and relays, which Python's ``is_global`` accepts.
_SPECIAL = (ipaddress.IPv4Network("192.0.0.0/24"), ipaddress.IPv4Network("192.88.99.0/24"))

#: Deprecated site-local addresses, which Python's ``is_global`` accepts.
_SITE_LOCAL = ipaddress.IPv6Network("fec0::/10")


def name_customer(address: str) -> str:
    """Return the key for rate limits of an address: an IPv6 customer has a whole /64."""
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
    """Return whether an address is on the public internet.

    Private, loopback, link-local, shared (CGNAT), multicast, reserved and
    unspecified addresses are not public. An IPv6 address that contains an IPv4
    address is public only if the IPv4 address is.
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

    :raises OSError: when the name cannot be resolved.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(one[4][0]) for one in found))


#: Schemes of proxy URLs. With ``socks5h``, the proxy resolves names.
PROXY_SCHEMES = ("http", "https", "socks5", "socks5h", "socks4", "socks4a")


def find_proxy(url: str, proxy: str | None = None) -> str | None:
    """Return the URL of the proxy for a URL, or None for a direct connection.

    :param proxy: Proxy for all URLs, empty for no proxy, or None to use the environment.
        The environment has ``HTTP_PROXY``, ``HTTPS_PROXY``, ``ALL_PROXY`` and ``NO_PROXY``.
        Their names in lower case take precedence. They do not apply to loopback addresses.
        ``NO_PROXY`` may contain networks (``10.0.0.0/8``).
    :raises ValueError: when the scheme of the proxy is unknown.
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
        raise ValueError(f"the scheme of a proxy must be one of {', '.join(PROXY_SCHEMES)}")
    return proxy


def _is_exempt(host: str, port: int | None, no_proxy: str) -> bool:
    """Return whether the environment exempts a host from the proxy."""
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
