"""What the texts of settings mean. Each function raises ValueError with what stands behind the variable's name in a sentence."""

import re
from collections.abc import Callable
from datetime import timedelta
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit

SECRET_BYTES = 32
_ADDRESS = re.compile(r"(?:\[[^\[\]]+\]|[^\[\]:]*)(?::([0-9]{0,5}))?")
_DURATION = re.compile(r"([0-9]{1,9})(s|m|h|d|w|y)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800, "y": 365 * 86_400}
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


def integer(low: int, high: int) -> Callable[[str], int]:
    """A whole number within these bounds."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,18}", text) or not low <= int(text) <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return int(text)

    return parse


def base_path(text: str) -> str:
    """What stands before every path: empty, or begun and not ended with a slash."""
    path = "/" + text.strip("/") if text.strip("/") else ""
    if not re.fullmatch(r"(/[A-Za-z0-9._~-]+)*", path):
        raise ValueError("must be a path such as /dev/aiwm")
    return path


def url(*schemes: str) -> Callable[[str], str]:
    """A URL of one of these schemes, without a slash at its end."""

    def parse(text: str) -> str:
        # No blank, quote, backslash, dollar or backtick: the value ends up in a shell script.
        if urlsplit(text).scheme not in schemes or not urlsplit(text).netloc or re.search(r"[\s\"'\\$`]", text):
            raise ValueError(f"must be a URL that starts with {' or '.join(f'{scheme}://' for scheme in schemes)}")
        return text.rstrip("/")

    return parse


def jwks_url(text: str) -> str:
    """Where an identity provider's keys are."""
    parts = urlsplit(text)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise ValueError(
            "must be a URL that starts with https:// (http:// to this machine itself alone): "
            "whoever can change the answer on its way can sign tokens"
        )
    if not parts.hostname or parts.username is not None or re.search(r"\s", text):
        raise ValueError("must name a host, and neither user nor password")
    return text


def database_url(text: str) -> str:
    """PostgreSQL's, of which the driver wants one scheme."""
    scheme, separator, rest = text.partition("://")
    if not separator or scheme not in {"postgresql", "postgres", "postgresql+asyncpg"}:
        raise ValueError("must be a URL that starts with postgresql://")
    addresses = re.split(r"[/?#]", rest, maxsplit=1)[0].rpartition("@")[2].split(",")
    found = [_ADDRESS.fullmatch(address) for address in addresses]
    if not all(match and int(match[1] or 1) in range(1, 65_536) for match in found):
        raise ValueError(
            "must name a host and a port from 1 to 65535, as in postgresql://user:password@host:5432/database; "
            "special characters of a password are written as %40 for @"
        )
    return f"postgresql://{rest}"


def secrets(text: str) -> tuple[str, ...]:
    """One, or several while they are replaced."""
    found = tuple(part.strip() for part in text.split(","))
    if any(len(part.encode()) < SECRET_BYTES for part in found):
        raise ValueError(f"is too short: every secret in it needs at least {SECRET_BYTES} bytes")
    return found


def retention(text: str) -> timedelta | None:
    """A duration; None for ever."""
    if text == "forever":
        return None
    match = _DURATION.fullmatch(text)
    if not match or int(match[1]) == 0:
        raise ValueError("must be a duration such as 30d or 12h, or `forever`")
    return timedelta(seconds=int(match[1]) * _SECONDS[match[2]])


def boolean(text: str) -> bool:
    """True or false."""
    if text.lower() not in {"true", "false"}:
        raise ValueError("must be true or false")
    return text.lower() == "true"


def log_level(text: str) -> str:
    """A level, in lower case."""
    if text.lower() not in {"debug", "info", "warning", "error"}:
        raise ValueError("must be debug, info, warning or error")
    return text.lower()


def words(text: str) -> tuple[str, ...]:
    """A list with commas."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def origins(text: str) -> tuple[str, ...]:
    """Of browsers."""
    found = words(text)
    if not all(re.fullmatch(r"\*|https?://[^/\s]+", origin) for origin in found):
        raise ValueError("must be origins such as https://portal.example, separated by commas, or `*`")
    return found


def networks(text: str) -> tuple[str, ...]:
    """Addresses and networks."""
    found = words(text)
    try:
        return tuple(str(ip_network(part)) if "/" in part else str(ip_address(part)) for part in found)
    except ValueError:
        raise ValueError("must be addresses or networks such as 10.0.0.0/8, separated by commas") from None
