"""Where a connection comes from, as it is written down."""

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any


def peer_address(scope: Mapping[str, Any]) -> str | None:
    """The IP address at the other end of an ASGI connection; None where it has none, as by a Unix socket.

    It is what a proxy said where proxies are believed (`AIWM_TRUSTED_PROXIES`).
    """
    client = scope.get("client")
    address = read_address(client[0]) if client else None
    return None if address is None else str(address)


def read_address(written: str) -> IPv4Address | IPv6Address | None:
    """An address; None for what is none.

    One and the same for IPv4 however the socket speaks it, and without the zone of a link-local one: that is this
    machine's own name for the way there.
    """
    try:
        address = ip_address(written.partition("%")[0])
    except ValueError:
        return None
    return (isinstance(address, IPv6Address) and address.ipv4_mapped) or address
