"""GET /install/…: the daemon, to whoever asks, and what the installation script says of it."""

import base64
from typing import Any

import pytest

from app.install.daemon_file import NAME, DaemonFile
from app.storage.database import Database
from tests.fakes import FakeClock
from tests.rest_app import rest_api

SHA256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
"""Of "abc", as FIPS 180-2 gives it."""
FILE = DaemonFile(b"abc", SHA256)


async def test_whoever_asks_gets_the_file(database: Database, clock: FakeClock) -> None:
    """Without a token, with its length and its digest; again only if it is another one."""
    async with rest_api(database, clock, FILE) as api:
        answer = await api.client.get(f"/install/{NAME}")
        assert (answer.status_code, answer.content) == (200, b"abc")
        assert answer.headers["Content-Type"] == "application/zip"
        assert answer.headers["Content-Length"] == "3"
        assert answer.headers["ETag"] == f'"{SHA256}"'
        assert answer.headers["Repr-Digest"] == f"sha-256=:{base64.b64encode(bytes.fromhex(SHA256)).decode()}:"
        for tags, status in [
            (answer.headers["ETag"], 304),
            ('"other", W/' + answer.headers["ETag"], 304),
            ('"x"', 200),
        ]:
            again = await api.client.get(f"/install/{NAME}", headers={"If-None-Match": tags})
            assert again.status_code == status
            assert again.content == (b"abc" if status == 200 else b"")


@pytest.mark.parametrize("below", ["", "/dev/aiwm"])
async def test_the_script_says_where_it_is(database: Database, clock: FakeClock, below: str) -> None:
    """Below the base path, at the public address, with the digest of what is there."""
    async with rest_api(database, clock, FILE, base_path=below) as api:
        node: dict[str, Any] = (await api("POST", f"{below}/nodes", {"name": "x", "role": ["worker"]})).json()
        script = (await api("POST", f"{below}/nodes/{node['_id']}/token")).json()["installScript"]
        assert f'daemon_url="http://localhost:3305{below}/install/{NAME}"\n' in script
        assert f'daemon_sha256="{SHA256}"\n' in script
        assert (await api.client.get(f"{below}/install/{NAME}")).content == b"abc"


async def test_a_service_without_the_file_says_what_to_do(database: Database, clock: FakeClock) -> None:
    """It gives nodes and tokens all the same; the script says so where it is run."""
    async with rest_api(database, clock) as api:
        answer = await api.client.get(f"/install/{NAME}")
        assert answer.status_code == 503
        assert "`make daemon`" in answer.json()["message"]
        node = await api.new_node()
        made = (await api("POST", f"/nodes/{node['_id']}/token")).json()
        assert 'daemon_sha256=""\n' in made["installScript"]


async def test_another_version_is_not_there(database: Database, clock: FakeClock) -> None:
    """A script of an older controller finds nothing, rather than something else than it was made for."""
    async with rest_api(database, clock, FILE) as api:
        answer = await api.client.get("/install/aiwm-node-daemon-0.0.1.pyz")
        assert answer.status_code == answer.json()["statusCode"] == 404
