"""The part of the Compose specification that docker-compose.yml uses: another key, or another shape, is an error."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

import msgspec
import yaml

_VARIABLE: Final = re.compile(r"\$(?:(\$)|\{([A-Z][A-Z0-9_]*)(?:(:[-?])([^}]*))?\})")


class Refused(Exception):
    """Compose does not start; the text is what it says."""


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class Healthcheck(_Strict, frozen=True):
    """When a container is healthy."""

    test: list[str]
    interval: str
    timeout: str
    retries: int
    start_period: str


class DependsOn(_Strict, frozen=True):
    """What another container must have come to before."""

    condition: Literal["service_started", "service_healthy", "service_completed_successfully"]


class Logging(_Strict, frozen=True):
    """Where output goes."""

    driver: str
    options: dict[str, str]


class Limit(_Strict, frozen=True):
    """Of a resource."""

    soft: int
    hard: int


class Service(_Strict, frozen=True):
    """A container."""

    image: str
    restart: Literal["no", "always", "on-failure", "unless-stopped"]
    logging: Logging
    build: str | None = None
    command: list[str] = []
    environment: dict[str, str] = {}
    secrets: list[str] = []
    volumes: list[str] = []
    ports: list[str] = []
    networks: list[str] = []
    profiles: list[str] = []
    depends_on: dict[str, DependsOn] = {}
    healthcheck: Healthcheck | None = None
    read_only: bool = False
    init: bool = False
    tmpfs: list[str] = []
    cap_drop: list[str] = []
    security_opt: list[str] = []
    ulimits: dict[str, Limit] = {}
    shm_size: str | None = None
    stop_grace_period: str | None = None


class Network(_Strict, frozen=True):
    """Who can reach whom."""

    internal: bool = False


class Secret(_Strict, frozen=True):
    """A file that stands in /run/secrets."""

    file: str


class Project(msgspec.Struct, frozen=True):
    """All of it; keys that begin with x- are the file's own."""

    services: dict[str, Service]
    secrets: dict[str, Secret]
    volumes: dict[str, None]
    networks: dict[str, Network | None]


def read(file: Path, environ: Mapping[str, str]) -> Project:
    """The file with its variables put in. Raises Refused for one that must be there and is not."""

    def put_in(value: object) -> object:
        if isinstance(value, str):
            return _VARIABLE.sub(lambda match: _value(match, environ), value)
        if isinstance(value, list):
            return [put_in(each) for each in value]
        if isinstance(value, dict):
            return {key: put_in(each) for key, each in value.items()}
        return value

    return msgspec.convert(put_in(yaml.safe_load(file.read_text())), Project)


def dotenv(file: Path) -> dict[str, str]:
    """The variables of an .env of plain lines."""
    lines = (line for line in file.read_text().splitlines() if line and not line.startswith("#"))
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


def _value(match: re.Match[str], environ: Mapping[str, str]) -> str:
    dollar, name, operator, rest = match.groups()
    if dollar:
        return "$"
    found = environ.get(name, "")
    if found == "" and operator == ":?":
        raise Refused(rest)
    return found or (rest if operator == ":-" else "")
