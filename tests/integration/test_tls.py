"""TLS with certificates of one's own: https and wss, nothing old, nothing in clear."""

import asyncio
import ssl
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

from app import server
from app.clock import timestamp
from app.errors import StartupError
from app.rest.headers import OVER_TLS
from app.settings import Settings
from app.storage.database import Database
from tests.fakes import FakeClock
from tests.frames import heartbeat
from tests.integration.gateway import Gateway, running_gateway
from tests.integration.test_lifecycle import introduce

HEALTHCHECK = Path(__file__).parents[2] / "deploy" / "healthcheck.py"

NOT_SPOKEN = (ssl.SSLError, ConnectionResetError)
"""asyncio closes after a handshake that failed, with the alert or before it is sent."""

ON_POSTGRESQL = pytest.mark.parametrize("server", ["postgresql"], indirect=True)


class Certificates:
    """A certificate for 127.0.0.1 and its key, as files, and who signed it."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        # RSA, so that a client may ask for what only RSA can do.
        issued = authority.issue_cert("127.0.0.1", key_type=trustme.KeyType.RSA)
        self.settings: dict[str, Any] = {"tls_cert": folder / "cert.pem", "tls_key": folder / "key.pem"}
        for blob in issued.cert_chain_pems:
            blob.write_to_path(str(self.settings["tls_cert"]), append=True)
        issued.private_key_pem.write_to_path(str(self.settings["tls_key"]))
        self._authority = authority

    def trust(self) -> ssl.SSLContext:
        """A client that trusts who signed it, and nobody else."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._authority.configure_trust(context)
        return context


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    """Made for this test."""
    return Certificates(tmp_path)


@pytest.fixture
async def gateway(database: Database, clock: FakeClock, certificates: Certificates) -> AsyncIterator[Gateway]:
    """A service that answers by TLS."""
    async with running_gateway(database, clock, tls=certificates.trust(), **certificates.settings) as gateway:
        yield gateway


@ON_POSTGRESQL
async def test_a_node_lives_on_https_and_wss(gateway: Gateway) -> None:
    """Created, told where to connect, registered, heard; browsers are told to stay with https."""
    node_id = await gateway.create_node()
    made = await gateway.http.post(f"/nodes/{node_id}/token")
    assert f"wss://127.0.0.1:{gateway.settings.port}" in made.json()["installScript"]
    for name, value in OVER_TLS.items():
        assert made.headers[name] == value
    async with gateway.worker(made.json()["token"]) as worker:
        await introduce(worker)
        answer = await worker.ask(heartbeat(timestamp(gateway.clock.now()), ack=True))
        assert answer["data"]["status"] == "stored"
        assert await gateway.status(node_id) == ("online", True)


@ON_POSTGRESQL
async def test_nothing_is_said_in_clear(gateway: Gateway) -> None:
    """Nor to who does not know the certificate's signer."""
    async with httpx.AsyncClient(trust_env=False) as stranger:
        with pytest.raises(httpx.TransportError):
            await stranger.get(f"http://127.0.0.1:{gateway.settings.port}/health/live")
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            await stranger.get(f"{gateway.settings.url}/health/live")


@ON_POSTGRESQL
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2])
async def test_what_is_spoken_is_new(gateway: Gateway, certificates: Certificates, version: ssl.TLSVersion) -> None:
    """TLS 1.3 and 1.2; the past stays secret when the key gets out, and what is said cannot be changed."""
    context = certificates.trust()
    context.minimum_version = context.maximum_version = version
    context.set_ciphers("ALL:@SECLEVEL=0")
    spoken, cipher = await handshake(gateway, context)
    assert spoken == version.name.replace("_", ".")
    assert cipher.startswith("TLS_" if version is ssl.TLSVersion.TLSv1_3 else "ECDHE-")
    assert "GCM" in cipher or "CHACHA20" in cipher


@ON_POSTGRESQL
@pytest.mark.parametrize("ciphers", ["kRSA", "aNULL", "ECDHE+SHA1"])
async def test_weak_ciphers_are_not_spoken(gateway: Gateway, certificates: Certificates, ciphers: str) -> None:
    """A key that RSA carries, a server that nobody vouches for, digests that can be forged."""
    context = certificates.trust()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(f"{ciphers}:@SECLEVEL=0")
    with pytest.raises(NOT_SPOKEN):
        await handshake(gateway, context)


@ON_POSTGRESQL
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated:DeprecationWarning")
async def test_tls_1_1_is_not_spoken(gateway: Gateway, certificates: Certificates) -> None:
    """Whatever the client puts up with."""
    context = certificates.trust()
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(NOT_SPOKEN):
        await handshake(gateway, context)


@ON_POSTGRESQL
async def test_the_container_checks_its_health_by_tls(gateway: Gateway, certificates: Certificates) -> None:
    """Over loopback, where no certificate is good for."""
    settings = {f"AIWM_{name.upper()}": str(path) for name, path in certificates.settings.items()}
    program = await asyncio.create_subprocess_exec(
        *(sys.executable, str(HEALTHCHECK)), env=settings | {"AIWM_PORT": str(gateway.settings.port)}
    )
    assert await program.wait() == 0


def test_a_certificate_and_a_key_that_do_not_belong_together_are_told(tmp_path: Path) -> None:
    """Before anything is started, in a sentence with both names."""
    one, other = (Certificates(make(tmp_path / name)).settings for name in ("one", "other"))
    server.check_tls(Settings(**one))
    with pytest.raises(StartupError, match=r"AIWM_TLS_CERT .* and AIWM_TLS_KEY .* are of no use"):
        server.check_tls(Settings(**one | {"tls_key": other["tls_key"]}))


def make(folder: Path) -> Path:
    """A new folder."""
    folder.mkdir()
    return folder


async def handshake(gateway: Gateway, context: ssl.SSLContext) -> tuple[str, str]:
    """The version and the cipher that client and service agree on. Raises one of NOT_SPOKEN where they do not."""
    async with asyncio.timeout(10):
        _, writer = await asyncio.open_connection("127.0.0.1", gateway.settings.port, ssl=context)
        cipher: tuple[str, str, int] = writer.get_extra_info("cipher")
        version: str = writer.get_extra_info("ssl_object").version()
        writer.close()
        await writer.wait_closed()
    return version, cipher[0]
