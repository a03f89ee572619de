"""What the environment says, read once into one frozen struct.

Every variable starts with `AIWM_`; the README lists them. A malformed value is a `StartupError`
that names the variable, an unknown variable is a warning, since it is most often a misspelling.
"""

import os
import re
import secrets
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from app import setting_values
from app.errors import StartupError
from app.retention import SHORTEST, Retention
from app.setting_values import SECRET_BYTES
from app.trust import OWN_ALONE, Trust

MAX_WORKERS = 64


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All settings. Durations ending in `_ms` are milliseconds."""

    host: str = "127.0.0.1"
    port: int = 3305
    workers: int = 1
    base_path: str = ""
    public_url: str = ""
    database_url: str | None = None
    data_dir: Path = Path(".data")
    jwt_secret: tuple[str, ...] = ()
    trust: Trust = OWN_ALONE
    token: str | None = None
    heartbeat_interval_ms: int = 30_000
    metrics_interval_ms: int = 60_000
    heartbeat_timeout_ms: int = 90_000
    retention: Retention = Retention()
    ingest_buffer_bytes: int = 64 * 1024 * 1024
    flush_interval_ms: int = 1000
    query_timeout_ms: int = 30_000
    token_renewal: bool = True
    creations_per_minute: int = 600
    log_level: str = "info"
    cors_origins: tuple[str, ...] = ()
    trusted_proxies: tuple[str, ...] = ()
    strangers_per_address: int = 0
    database_wait_ms: int = 60_000
    tls_cert: Path | None = None
    tls_key: Path | None = None

    @property
    def embedded(self) -> bool:
        """Whether the service brings its own PostgreSQL."""
        return self.database_url is None

    @property
    def url(self) -> str:
        """Where people and workers reach the service, base path included, no slash at the end."""
        scheme = "https" if self.tls_cert else "http"
        return self.public_url or f"{scheme}://localhost:{self.port}{self.base_path}"

    @property
    def flush_seconds(self) -> float:
        """How far apart batches are, in seconds: as it is set, but a heartbeat must be stored long before the next."""
        return min(self.flush_interval_ms, self.heartbeat_interval_ms / 10) / 1000

    @property
    def websocket_url(self) -> str:
        """The same for WebSocket clients: ws for http, wss for https."""
        return "ws" + self.url.removeprefix("http")

    def seat(self, number: int) -> str:
        """Where a gateway listens, and which it is of those there. Whoever has it is its only holder."""
        return f"{socket.gethostname()}:{self.host}:{self.port}" + (f"#{number}" if number else "")


def read(environ: Mapping[str, str]) -> tuple[Settings, list[str]]:
    """Settings from an environment, and warnings for a person to read.

    Raises StartupError for a malformed value, with a sentence that names the variable.
    """
    values: dict[str, Any] = {}
    warnings: list[str] = []
    for variable in sorted(name for name in environ if name.startswith("AIWM_")):
        if _injected_by_kubernetes(variable, environ[variable]):
            warnings.append(f"{variable} looks like what Kubernetes injects for a Service and is ignored.")
            continue
        name, text = _name_and_text(variable, environ[variable])
        if name not in _PARSERS:
            warnings.append(f"{variable} is not a setting of this service and is ignored: is it misspelt?")
        elif text != "":
            try:
                values[name] = _PARSERS[name](text)
            except ValueError as error:
                # The value itself is not repeated: it may be a secret, or a URL with a password in it.
                raise StartupError(f"{variable} {error}.") from None
    kept = {field: values.pop(name) for name, field in _RETENTIONS.items() if name in values}
    trust = Trust(**{field: values.pop(name) for name, field in _TRUST.items() if name in values})
    settings = Settings(**values, retention=Retention(**kept), trust=trust)
    _check(settings)
    return settings, warnings


def with_secret(settings: Settings, *, may_generate: bool = True) -> Settings:
    """The same settings with a signing secret: the given one, or the data directory's own.

    With an embedded database and no AIWM_JWT_SECRET a secret is generated once and kept, mode 0600.
    Raises StartupError where there is none and none may be made.
    """
    if settings.jwt_secret:
        return settings
    if not settings.embedded:
        raise StartupError(
            "AIWM_JWT_SECRET is not set: with AIWM_DATABASE_URL the service needs the secret that signs its tokens, "
            f"at least {SECRET_BYTES} bytes (for instance from `openssl rand -hex 32`)."
        )
    path = settings.data_dir / "jwt-secret"
    if not may_generate and not path.exists():
        raise StartupError(
            f"There is no portal token in AIWM_TOKEN, and no service has left a secret in {settings.data_dir.resolve()} "
            "to sign one with: set AIWM_TOKEN, or start where the service was started."
        )
    try:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        return msgspec.structs.replace(settings, jwt_secret=(_kept_secret(path),))
    except OSError as error:
        raise StartupError(
            f"The signing secret {path} cannot be read or written: {error.strerror}. "
            "Set AIWM_DATA_DIR to a directory that this user may write."
        ) from None


def _kept_secret(path: Path) -> str:
    if not path.exists():
        # Written under a name of its own and linked, so that two starts at once agree on one secret.
        draft = path.with_name(f"{path.name}.{os.getpid()}")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(secrets.token_hex(SECRET_BYTES))
        try:
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return path.read_text().strip()


def _name_and_text(variable: str, text: str) -> tuple[str, str]:
    """`AIWM_X_FILE` stands for `AIWM_X` where x may be secret; the file's content is the value."""
    name = variable.removeprefix("AIWM_").lower()
    target = name.removesuffix("_file")
    if target not in _SECRET or target == name:
        return name, text
    try:
        return target, Path(text).read_text().strip()
    except OSError as error:
        raise StartupError(f"{variable} names a file that cannot be read: {error.strerror}.") from None


def _injected_by_kubernetes(variable: str, value: str) -> bool:
    """A Service called `aiwm` makes Kubernetes set AIWM_PORT=tcp://…, AIWM_SERVICE_HOST and more."""
    return value.startswith(("tcp://", "udp://")) or bool(re.match(r"AIWM_(SERVICE_|PORT_\d+_)", variable))


def _check(settings: Settings) -> None:
    if settings.heartbeat_timeout_ms <= settings.heartbeat_interval_ms:
        raise StartupError(
            f"AIWM_HEARTBEAT_TIMEOUT_MS ({settings.heartbeat_timeout_ms}) must be longer than "
            f"AIWM_HEARTBEAT_INTERVAL_MS ({settings.heartbeat_interval_ms}), else every node flaps."
        )
    if (settings.tls_cert is None) != (settings.tls_key is None):
        raise StartupError("AIWM_TLS_CERT and AIWM_TLS_KEY belong together: set both or neither.")
    if settings.trust.problem is not None:
        raise StartupError(settings.trust.problem)
    for name, field in _RETENTIONS.items():
        kept, shortest = getattr(settings.retention, field), SHORTEST[field]
        if kept is not None and kept < shortest:
            raise StartupError(f"AIWM_{name.upper()} must be at least {shortest.days}d, or `forever`.")


_DAY_MS = 86_400_000
_RETENTIONS = {
    "retention_raw": "raw",
    "retention_heartbeats": "heartbeats",
    "retention_5m": "five_minutes",
    "retention_1h": "hour",
    "retention_1d": "day",
}
_TRUST = {f"jwt_{field}": field for field in Trust.__struct_fields__}
_SECRET = {"jwt_secret", "database_url", "token"}
_PARSERS: dict[str, Callable[[str], Any]] = {
    "host": str,
    "port": setting_values.integer(1, 65_535),
    "workers": setting_values.integer(1, MAX_WORKERS),
    "base_path": setting_values.base_path,
    "public_url": setting_values.url("http", "https"),
    "database_url": setting_values.database_url,
    "data_dir": Path,
    "jwt_secret": setting_values.secrets,
    "jwt_jwks_url": setting_values.jwks_url,
    **dict.fromkeys(("jwt_issuer", "jwt_audience", "jwt_org_claim", "jwt_role_claim"), str),
    **dict.fromkeys(("jwt_viewer_roles", "jwt_operator_roles", "jwt_admin_roles"), setting_values.words),
    "jwt_allow_hs256": setting_values.boolean,
    "token": str,
    "heartbeat_interval_ms": setting_values.integer(100, _DAY_MS),
    "metrics_interval_ms": setting_values.integer(100, _DAY_MS),
    "heartbeat_timeout_ms": setting_values.integer(200, _DAY_MS),
    **dict.fromkeys(_RETENTIONS, setting_values.retention),
    "ingest_buffer_bytes": setting_values.integer(1024 * 1024, 1024**4),
    "flush_interval_ms": setting_values.integer(0, 1000),
    "query_timeout_ms": setting_values.integer(10, _DAY_MS),
    "token_renewal": setting_values.boolean,
    "creations_per_minute": setting_values.integer(0, 1_000_000),
    "log_level": setting_values.log_level,
    "cors_origins": setting_values.origins,
    "trusted_proxies": setting_values.networks,
    "strangers_per_address": setting_values.integer(0, 1_000_000),
    "database_wait_ms": setting_values.integer(0, _DAY_MS),
    "tls_cert": Path,
    "tls_key": Path,
}
