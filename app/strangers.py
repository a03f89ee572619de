"""Connections that have not said yet who they are: so many of one address, where a setting says how many.

Counted by the process that holds them: of several gateways each has its own count.
"""

from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from ipaddress import IPv6Address
from typing import Any, Final

from uvicorn.middleware.proxy_headers import _TrustedHosts

from app.addresses import read_address

PLACE: Final = "place"
"""The key of a scope's state under which its stranger's place is."""
_SUBSCRIBER_BITS: Final = 64
"""Of an IPv6 address: so much of it a provider gives to one customer, who may take any address below."""


class Place:
    """One of the places of an address, until `leave`, which is harmless the second time."""

    __slots__ = ("_counts", "_key")

    def __init__(self, counts: Counter[str], key: str) -> None:
        self._counts = counts
        self._key: str | None = key
        counts[key] += 1

    def leave(self) -> None:
        """Whoever was there has shown a token, or is gone."""
        if self._key is not None:
            self._counts[self._key] -= 1
            if not self._counts[self._key]:
                del self._counts[self._key]
            self._key = None


class Strangers:
    """The places; `most` of an address, 0 for as many as come. Proxies have none: they bring other addresses."""

    def __init__(self, most: int, proxies: tuple[str, ...]) -> None:
        self._most = most
        self._proxies = _TrustedHosts(list(proxies))
        self._counts: Counter[str] = Counter()

    @property
    def is_counted(self) -> bool:
        """Whether there is a limit at all."""
        return self._most > 0

    def is_proxy(self, peer: str) -> bool:
        """Whether what this peer says of its clients' addresses is believed."""
        return peer in self._proxies

    def behind(self, forwarded: str) -> str:
        """Whom a proxy speaks for, by its `X-Forwarded-For`: the last address that is no proxy of ours."""
        return self._proxies.get_trusted_client_address(forwarded)[0]

    def enter(self, address: str) -> Place | None:
        """A place, or None where the address has none left."""
        key = _key(address)
        return Place(self._counts, key) if self._counts[key] < self._most else None


def welcome(scope: Mapping[str, Any]) -> None:
    """Whoever sent this request, or opened this socket, is no stranger any more."""
    place = scope.get("state", {}).pop(PLACE, None)
    if isinstance(place, Place):
        place.leave()


@lru_cache(4096)
def _key(address: str) -> str:
    found = read_address(address)
    if isinstance(found, IPv6Address):
        return hex(int(found) >> _SUBSCRIBER_BITS)
    return address[:64] if found is None else str(found)
