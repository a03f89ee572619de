"""docker-compose.yml: what starts after what, what may do what, and what is refused."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

import msgspec
import pytest
import yaml

from app.settings import read as read_settings
from tests.compose.specification import Project, Refused, Service, dotenv, read
from tests.databases import IMAGE

ROOT: Final = Path(__file__).parents[2]
FILE: Final = ROOT / "docker-compose.yml"
EXAMPLE: Final = dotenv(ROOT / ".env.example")
OURS: Final = ("aiwm", "grafana-login", "demo")
COMPOSE: Final = [command for command in ("docker-compose",) if shutil.which(command)]
"""Compose itself, where the machine has it: to read a file it needs no engine."""


@pytest.fixture
def project() -> Project:
    """As it is with a folder of secrets and nothing else said."""
    return read(FILE, EXAMPLE | {"AIWM_SECRETS": "./secrets"})


def mounts(service: Service) -> list[list[str]]:
    """Source, target, and the mode if there is one."""
    return [volume.split(":") for volume in service.volumes]


def test_without_secrets_nothing_starts() -> None:
    """The example as it stands is refused, with a sentence that says what to do."""
    with pytest.raises(Refused, match=r"AIWM_SECRETS is not set. Run `make secrets`"):
        read(FILE, EXAMPLE)


@pytest.mark.parametrize("variable", ["AIWM_SECRETS", "AIWM_PUBLIC_URL", "ALERTS_TO"])
def test_what_must_be_said_is_asked_for(variable: str) -> None:
    """By name, in a sentence."""
    with pytest.raises(Refused, match=f"^{variable} is not set. [A-Z].* .*"):
        read(FILE, EXAMPLE | {"AIWM_SECRETS": "./secrets", variable: ""})


def test_every_variable_stands_in_the_example() -> None:
    """And the example has none that nothing reads."""
    used = set(re.findall(r"\$\{([A-Z0-9_]+)", FILE.read_text()))
    assert used - {"AIWM_IMAGE"} == set(EXAMPLE) - {"COMPOSE_PROJECT_NAME"}


def test_one_starts_when_what_it_needs_is_there(project: Project) -> None:
    """The database, the service, Grafana's login, Grafana; each waits for a condition that will come."""
    waits = {
        name: {other: needed.condition for other, needed in service.depends_on.items()}
        for name, service in project.services.items()
    }
    assert waits == {
        "timescaledb": {},
        "aiwm": {"timescaledb": "service_healthy"},
        "grafana-login": {"aiwm": "service_healthy"},
        "grafana": {"grafana-login": "service_completed_successfully"},
        "demo": {"aiwm": "service_healthy"},
    }
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert project.services["timescaledb"].healthcheck
    assert project.services["aiwm"].build == "."
    assert "HEALTHCHECK" in dockerfile
    assert project.services["grafana-login"].restart == "no"  # else it would never be completed


def test_images_are_pinned(project: Project) -> None:
    """To a version each; TimescaleDB's is the one that the tests use."""
    assert project.services["timescaledb"].image == IMAGE
    assert re.fullmatch(r"grafana/grafana:\d+\.\d+\.\d+", project.services["grafana"].image)
    bases = re.findall(r"^(?:FROM|ARG PYTHON=)\s*(\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert bases[0] == "python:3.11-slim-bookworm"
    assert set(bases[1:]) == {"${PYTHON}", "tools"}


@pytest.mark.parametrize("name", OURS)
def test_our_containers_may_do_little(project: Project, name: str) -> None:
    """No writing but to /tmp, no capability, no way to more rights."""
    service = project.services[name]
    assert service.read_only
    assert [mount.split(":")[0] for mount in service.tmpfs] == ["/tmp"]
    assert service.cap_drop == ["ALL"]
    assert service.security_opt == ["no-new-privileges:true"]
    assert service.volumes == []


def test_nobody_gains_rights(project: Project) -> None:
    """Not in the others' containers either."""
    assert all("no-new-privileges:true" in service.security_opt for service in project.services.values())


def test_what_is_published_is_published_on_loopback(project: Project) -> None:
    """Until .env says otherwise; the database never."""
    published = {name: service.ports for name, service in project.services.items() if service.ports}
    assert published == {"aiwm": ["127.0.0.1:3305:3305"], "grafana": ["127.0.0.1:3000:3000"]}
    assert project.services["timescaledb"].networks == ["database"]
    assert project.networks["database"] is not None
    assert project.networks["database"].internal


def test_secrets_go_where_they_are_needed(project: Project) -> None:
    """Grafana never has the owner's password, nor the service Grafana's; the superuser's is the database's alone."""
    assert {name: sorted(service.secrets) for name, service in project.services.items()} == {
        "timescaledb": ["database_superuser_password", "database_url"],
        "aiwm": ["database_url", "jwt_secret"],
        "grafana-login": ["database_url", "grafana_database_password"],
        "grafana": ["grafana_admin_password", "grafana_database_password", "grafana_secret_key", "smtp_password"],
        "demo": ["jwt_secret"],
    }
    assert {name: secret.file for name, secret in project.secrets.items()} == {
        name: f"./secrets/{name}" for name in project.secrets
    }
    assert {name for service in project.services.values() for name in service.secrets} == set(project.secrets)


def test_no_secret_is_in_a_variable_or_on_a_command_line(project: Project) -> None:
    """Only the names of files are; each of a secret that the container has."""
    for name, service in project.services.items():
        words = [*service.command, *service.environment.values()]
        files = {word.removeprefix("/run/secrets/") for word in words if word.startswith("/run/secrets/")}
        assert files <= set(service.secrets), name
        for variable, value in service.environment.items():
            secret = re.search(r"PASSWORD|SECRET|DATABASE_URL|TOKEN", variable)
            assert not secret or value.startswith("/run/secrets/"), (name, variable)
            assert variable.endswith("FILE") == value.startswith("/run/secrets/"), (name, variable)


@pytest.mark.parametrize("name", OURS)
def test_the_service_understands_its_settings(project: Project, name: str, tmp_path: Path) -> None:
    """No variable is unknown to it, no value malformed; empty ones are the defaults."""
    for secret, text in {"database_url": "postgresql://aiwm:x@timescaledb:5432/aiwm", "jwt_secret": "s" * 64}.items():
        (tmp_path / secret).write_text(text)
    variables = {
        variable: value.replace("/run/secrets", str(tmp_path))
        for variable, value in project.services[name].environment.items()
    }
    settings, warnings = read_settings(variables)
    assert warnings == []
    if name == "aiwm":
        assert (settings.database_url, settings.jwt_secret) == (
            "postgresql://aiwm:x@timescaledb:5432/aiwm",
            ("s" * 64,),
        )
        assert read_settings({})[0].retention == settings.retention


def test_what_is_mounted_is_there(project: Project) -> None:
    """And cannot be written to."""
    named = set()
    for service in project.services.values():
        for source, target, *mode in mounts(service):
            if source.startswith("./"):
                assert (ROOT / source).exists(), source
                assert mode == ["ro"], target
            else:
                named.add(source)
    assert named == set(project.volumes)


def test_grafana_finds_what_is_provisioned(project: Project) -> None:
    """Every variable and file that the provisioning names is given to Grafana, and so are the dashboards' folder and home."""
    grafana = project.services["grafana"]
    folder = ROOT / "dashboards" / "grafana" / "provisioning"
    texts = {file: file.read_text() for file in folder.rglob("*.yaml")}
    variables = {name for text in texts.values() for name in re.findall(r"\$\{?([A-Z][A-Z_]+)\}?", text)}
    assert variables
    assert variables <= set(grafana.environment)
    files = {name for text in texts.values() for name in re.findall(r"\$__file\{/run/secrets/(\w+)\}", text)}
    assert files == {"grafana_database_password"}
    assert files <= set(grafana.secrets)
    targets = {target: source for source, target, *_ in mounts(grafana)}
    (provider,) = yaml.safe_load((folder / "dashboards" / "aiwm.yaml").read_text())["providers"]
    assert targets[provider["options"]["path"]] == "./dashboards/grafana/dashboards"
    home = Path(grafana.environment["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert (ROOT / targets[str(home.parent)] / home.name).exists()


def test_a_misspelt_key_is_an_error(tmp_path: Path) -> None:
    """As it is for Compose: the check is one."""
    misspelt = tmp_path / "docker-compose.yml"
    misspelt.write_text(FILE.read_text().replace("read_only:", "readonly:", 1))
    with pytest.raises(msgspec.ValidationError, match="readonly"):
        read(misspelt, EXAMPLE | {"AIWM_SECRETS": "./secrets"})


@pytest.mark.parametrize("command", COMPOSE)
def test_compose_reads_it(command: str, tmp_path: Path) -> None:
    """With secrets; and without them it says the same sentence as our reading of it."""

    def config(**environ: str) -> subprocess.CompletedProcess[str]:
        arguments = [command, "--file", str(FILE), "--profile", "demo", "config"]
        path = {"PATH": "/usr/local/bin:/usr/bin:/bin"}
        return subprocess.run(
            arguments, cwd=tmp_path, env=path | EXAMPLE | environ, capture_output=True, text=True, check=False
        )

    told = config(AIWM_SECRETS="./secrets")
    assert told.returncode == 0, told.stderr
    assert set(yaml.safe_load(told.stdout)["services"]) == {"timescaledb", "aiwm", "grafana-login", "grafana", "demo"}
    refused = config(AIWM_SECRETS="")
    assert refused.returncode != 0
    assert "AIWM_SECRETS is not set. Run `make secrets`" in refused.stderr


@pytest.mark.parametrize("kind", ["datasources", "dashboards"])
def test_a_tenant_is_the_operators_in_another_organisation(kind: str) -> None:
    """Filled in, the template differs from what operators have in who asks and for whom, in nothing else."""
    template = ROOT / "dashboards" / "grafana" / "tenants" / f"{kind.removesuffix('s')}.yaml"
    if kind == "dashboards":
        template = template.with_name("dashboards.yaml")
    filled = template.read_text().replace("{name}", "acme").replace("{grafana_org}", "2")
    (tenant,) = yaml.safe_load(filled)["providers" if kind == "dashboards" else kind]
    operators = yaml.safe_load((ROOT / "dashboards/grafana/provisioning" / kind / "aiwm.yaml").read_text())
    (operator,) = operators["providers" if kind == "dashboards" else kind]
    assert tenant.pop("orgId") == 2
    differs = {key: value for key, value in tenant.items() if operator[key] != value}
    assert tenant.keys() == operator.keys()
    if kind == "datasources":
        password = {"password": "$__file{/run/secrets/tenant_acme}"}
        assert differs == {"user": "tenant_acme", "secureJsonData": password}
    else:
        assert differs == {"name": "aiwm-acme"}
