"""The environment, read once: values, files, mistakes, and what Kubernetes puts there."""

import stat
from datetime import timedelta
from pathlib import Path

import pytest

from app.errors import StartupError
from app.settings import Settings, read, with_secret
from app.storage.database import masked

SECRET = "s" * 32


def test_an_empty_environment_gives_the_contract_s_defaults() -> None:
    """Without any variable the service is the laptop's: port 3305, embedded database."""
    settings, warnings = read({"PATH": "/bin"})
    assert (settings.host, settings.port, settings.embedded, warnings) == ("127.0.0.1", 3305, True, [])
    assert (settings.url, settings.websocket_url) == ("http://localhost:3305", "ws://localhost:3305")
    assert (settings.retention.raw, settings.retention.heartbeats) == (timedelta(days=30), timedelta(days=14))
    assert settings.retention.max_sample_age == timedelta(days=28)
    assert settings.token_renewal
    assert not read({"AIWM_TOKEN_RENEWAL": "False"})[0].token_renewal


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("AIWM_PORT", "0"),
        ("AIWM_PORT", "65536"),
        ("AIWM_PORT", "80a"),
        ("AIWM_PORT", "\u0663"),
        ("AIWM_BASE_PATH", "/a b"),
        ("AIWM_PUBLIC_URL", "localhost:3305"),
        ("AIWM_PUBLIC_URL", 'http://x/$(id)"'),
        ("AIWM_DATABASE_URL", "mysql://x"),
        ("AIWM_JWT_SECRET", "short"),
        ("AIWM_JWT_SECRET", SECRET + ",short"),
        ("AIWM_RETENTION_RAW", "30 days"),
        ("AIWM_RETENTION_RAW", "0d"),
        ("AIWM_LOG_LEVEL", "loud"),
        ("AIWM_TOKEN_RENEWAL", "no"),
        ("AIWM_HEARTBEAT_TIMEOUT_MS", "30000"),
        ("AIWM_TLS_CERT", "/cert.pem"),
        ("AIWM_WORKERS", "65"),
        ("AIWM_CORS_ORIGINS", "portal.example"),
        ("AIWM_TRUSTED_PROXIES", "proxy.example"),
        ("AIWM_TRUSTED_PROXIES", "10.0.0.0/33"),
        ("AIWM_TRUSTED_PROXIES", "10.0.0.1/8"),
        ("AIWM_CREATIONS_PER_MINUTE", "-1"),
        ("AIWM_STRANGERS_PER_ADDRESS", "many"),
        ("AIWM_JWT_SECRET_FILE", "/does/not/exist"),
        ("AIWM_DATABASE_URL", "postgresql://u:hunter2@host:abc/d"),
        ("AIWM_DATABASE_URL", "postgresql://u:hunter2@host:99999/d"),
        ("AIWM_DATABASE_URL", "postgresql://u:hunter2@one:1,two:0/d"),
        ("AIWM_DATABASE_URL", "postgresql://u:hunter2@[::1/d"),
    ],
)
def test_a_malformed_value_is_named_and_not_repeated(variable: str, value: str) -> None:
    """The sentence names the variable; a secret's own text does not stand in it."""
    with pytest.raises(StartupError) as caught:
        read({variable: value})
    assert variable in str(caught.value)
    if "SECRET" in variable:
        assert "short" not in str(caught.value).replace("too short", "")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("address", ["h", "h:5432", "[::1]:5432", "one:1,two:2", "u:p%40w@h:", "", "u@"])
def test_whatever_address_a_database_may_have_is_taken(address: str) -> None:
    """Several hosts, IPv6, and none where the socket's folder is a parameter."""
    url = f"postgresql://{address}/d?host=/run"
    assert read({"AIWM_DATABASE_URL": url})[0].database_url == url


def test_a_data_directory_that_is_none_is_named(tmp_path: Path) -> None:
    """The sentence says which setting to change."""
    (tmp_path / "file").touch()
    settings, _ = read({"AIWM_DATA_DIR": str(tmp_path / "file")})
    with pytest.raises(StartupError, match="AIWM_DATA_DIR"):
        with_secret(settings)


def test_an_unknown_variable_is_a_warning() -> None:
    """A misspelt variable is told, not obeyed and not fatal."""
    _, warnings = read({"AIWM_PROT": "80"})
    assert len(warnings) == 1
    assert "AIWM_PROT" in warnings[0]


PROVIDER = {
    "AIWM_JWT_JWKS_URL": "https://login.example/jwks",
    "AIWM_JWT_ISSUER": "https://login.example",
    "AIWM_JWT_AUDIENCE": "aiwm",
}


def test_an_identity_provider_makes_nobody_an_admin_by_itself() -> None:
    """And the service's own secret signs no portal tokens any more; settings say otherwise."""
    trust = read(PROVIDER)[0].trust
    assert (trust.admin_roles, trust.takes_own) == ((), False)
    said = {"AIWM_JWT_ADMIN_ROLES": "root, boss", "AIWM_JWT_ORG_CLAIM": "/org/id", "AIWM_JWT_ALLOW_HS256": "true"}
    trust = read(PROVIDER | said)[0].trust
    assert (trust.admin_roles, trust.org_claim, trust.takes_own) == (("root", "boss"), "/org/id", True)
    assert read({})[0].trust.takes_own


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"AIWM_JWT_ISSUER": ""}, "AIWM_JWT_ISSUER"),
        ({"AIWM_JWT_AUDIENCE": ""}, "AIWM_JWT_AUDIENCE"),
        ({"AIWM_JWT_AUDIENCE": "aiwm-node"}, "AIWM_JWT_AUDIENCE"),
        ({"AIWM_JWT_JWKS_URL": "http://login.example/jwks"}, "AIWM_JWT_JWKS_URL must be a URL that starts with https"),
        ({"AIWM_JWT_JWKS_URL": "file:///etc/keys"}, "AIWM_JWT_JWKS_URL"),
        ({"AIWM_JWT_JWKS_URL": "https://"}, "AIWM_JWT_JWKS_URL"),
        ({"AIWM_JWT_JWKS_URL": "https://u:hunter2@login.example/"}, "AIWM_JWT_JWKS_URL"),
        ({"AIWM_JWT_ALLOW_HS256": "perhaps"}, "AIWM_JWT_ALLOW_HS256"),
    ],
)
def test_a_provider_that_is_half_set_stops_the_start(changes: dict[str, str], named: str) -> None:
    """Without issuer or audience, with the audience of nodes, or by a way on which keys can be changed."""
    with pytest.raises(StartupError) as caught:
        read(PROVIDER | changes)
    assert named in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_provider_on_this_machine_needs_no_tls() -> None:
    """Nobody stands between."""
    for host in ("localhost", "127.0.0.1:8080", "[::1]:8080"):
        url = f"http://{host}/jwks"
        assert read(PROVIDER | {"AIWM_JWT_JWKS_URL": url})[0].trust.jwks_url == url


def test_what_kubernetes_injects_is_ignored_with_a_warning() -> None:
    """A Service called aiwm sets variables of our prefix; none of them is a setting."""
    injected = {
        "AIWM_PORT": "tcp://10.0.0.1:3305",
        "AIWM_SERVICE_HOST": "10.0.0.1",
        "AIWM_SERVICE_PORT": "3305",
        "AIWM_PORT_3305_TCP": "tcp://10.0.0.1:3305",
        "AIWM_PORT_3305_TCP_PORT": "3305",
    }
    settings, warnings = read(injected)
    assert settings.port == 3305
    assert len(warnings) == len(injected)


def test_secrets_come_from_files_too(tmp_path: Path) -> None:
    """`…_FILE` names a file whose content is the value."""
    (tmp_path / "secret").write_text(f"{SECRET},{SECRET[::-1]}\n")
    (tmp_path / "url").write_text("postgres://u:p@h/d\n")
    settings, _ = read(
        {"AIWM_JWT_SECRET_FILE": str(tmp_path / "secret"), "AIWM_DATABASE_URL_FILE": str(tmp_path / "url")}
    )
    assert settings.jwt_secret == (SECRET, SECRET)
    assert settings.database_url == "postgresql://u:p@h/d"


def test_base_path_and_public_url_shape_the_addresses() -> None:
    """The base path is part of the default address; a public URL stands as it is given."""
    assert read({"AIWM_BASE_PATH": "dev/aiwm/"})[0].url == "http://localhost:3305/dev/aiwm"
    tls = {"AIWM_TLS_CERT": "/c.pem", "AIWM_TLS_KEY": "/k.pem"}
    assert read(tls)[0].websocket_url == "wss://localhost:3305"
    assert read({"AIWM_PUBLIC_URL": "https://api.example/x/"})[0].websocket_url == "wss://api.example/x"


def test_a_secret_is_made_once_and_kept_private(tmp_path: Path) -> None:
    """With an embedded database the first start makes a secret of mode 0600; later ones read it."""
    settings, _ = read({"AIWM_DATA_DIR": str(tmp_path / "data")})
    first = with_secret(settings).jwt_secret
    assert with_secret(settings).jwt_secret == first
    assert stat.S_IMODE((tmp_path / "data" / "jwt-secret").stat().st_mode) == 0o600
    assert len(first[0].encode()) >= 32


def test_an_own_database_needs_an_own_secret() -> None:
    """With AIWM_DATABASE_URL nothing is generated: the sentence says what to set."""
    settings, _ = read({"AIWM_DATABASE_URL": "postgresql://h/d"})
    with pytest.raises(StartupError, match="AIWM_JWT_SECRET"):
        with_secret(settings)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:p%40w@db.example:5432/telemetry?sslmode=require", "postgresql://u@db.example:5432/telemetry"),
        ("postgresql://u:secret@one:1,two:2/d", "postgresql://u@one:1,two:2/d"),
        ("postgresql://u:secret@host:secretport/d", "postgresql://u@host:secretport/d"),
        ("postgresql:///d?host=/run&password=secret", "postgresql:///d"),
    ],
)
def test_a_database_url_is_shown_without_its_password(url: str, shown: str) -> None:
    """Neither the password nor parameters, which may hold one, are printed."""
    assert masked(url) == shown


def test_batches_are_never_further_apart_than_a_tenth_of_the_heartbeat_interval() -> None:
    """With a quick cadence a heartbeat is stored long before the next; else the setting says it."""
    assert Settings().flush_seconds == 1
    assert Settings(flush_interval_ms=200).flush_seconds == 0.2
    assert Settings(heartbeat_interval_ms=300).flush_seconds == 0.03
