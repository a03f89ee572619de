"""Where a connection comes from, as it is written down."""

from collections.abc import Mapping
from ipaddress import IPv6Address, ip_address
from typing import Any


def peer_address(scope: Mapping[str, Any]) -> str | None:
    """The IP address at the other end of an ASGI connection; None where it has none, as by a Unix socket.

    One and the same for IPv4 however the socket speaks it, and without the zone of a link-local one: that is this
    machine's own name for the way there.
    """
    client = scope.get("client")
    try:
        address = ip_address(client[0].partition("%")[0]) if client else None
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return None if address is None else str(address)
