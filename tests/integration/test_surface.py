"""What the service shows of itself to browsers and strangers: headers, origins, the page of the description, who reads what."""

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator
from hashlib import sha256
from html.parser import HTMLParser

import httpx
import pytest
from sqlalchemy import text
from websockets.asyncio.client import connect

from app import VERSION
from app.install.daemon_file import DaemonFile
from app.rest.headers import HEADERS, OVER_TLS
from app.storage.database import Database
from tests.fakes import FakeClock
from tests.integration.gateway import running_gateway
from tests.rest_app import Api, rest_api
from tests.security import surface
from tests.worker import Worker

DAEMON = DaemonFile(b"a daemon", "0" * 64)
PORTAL = "https://portal.example"
ELSEWHERE = "203.0.113.10"

# It is all above the database: one kind of it is enough.
pytestmark = pytest.mark.parametrize("server", ["postgresql"], indirect=True)


@pytest.fixture
async def api(database: Database, clock: FakeClock) -> AsyncIterator[Api]:
    """The API to a client from elsewhere."""
    async with rest_api(database, clock, DAEMON, address=ELSEWHERE) as api:
        yield api


def check(answer: httpx.Response, **own: str) -> None:
    """Each header once, as all answers have it but for what this one says itself; none that tells what serves it."""
    for name, value in (HEADERS | {name.replace("_", "-"): value for name, value in own.items()}).items():
        assert answer.headers.get_list(name) == [value], (answer.url, name)
    assert not {"server", "x-powered-by"} & set(answer.headers), answer.url


async def test_every_answer_has_the_headers(api: Api, database: Database) -> None:
    """Good ones and bad ones, ours and the framework's; the daemon's file alone may be kept by who downloads it."""
    answers = [await api("GET", each.path) for each in surface.PATHS]
    answers += [await api.client.get("/nodes"), await api.client.post("/health/live"), await api("GET", "/schema/x")]
    answers += [await api("POST", "/nodes", {}), await api("POST", "/nodes", {"name": "n", "role": ["worker"]})]
    answers += [await api("POST", "/nodes", b" " * 300_000), await api.client.options("/nodes")]
    async with database.transaction() as connection:
        await connection.execute(text("ALTER TABLE nodes RENAME TO elsewhere"))
    answers += [await api("GET", "/nodes")]
    assert {answer.status_code for answer in answers} == {200, 201, 204, 400, 401, 404, 405, 413, 500}
    for answer in answers:
        is_download = "/install/" in str(answer.url)
        check(answer, **({"Cache_Control": "public, no-cache"} if is_download else {}))
        assert "strict-transport-security" not in answer.headers


async def test_who_is_reached_by_https_says_so(database: Database, clock: FakeClock) -> None:
    """Also where a proxy has the certificate; browsers then never come without it."""
    async with rest_api(database, clock, public_url="https://api.example") as api:
        check(await api.client.get("/health/live"), **OVER_TLS)


async def test_nothing_says_what_serves_it(database: Database, clock: FakeClock) -> None:
    """On real connections: not answers, not handshakes, not what is said to garbage; the version is for who is let in."""
    async with running_gateway(database, clock) as gateway:
        check(await gateway.http.get("/nodes"))
        async with connect(f"{gateway.settings.websocket_url}/ws/node", proxy=None) as socket:
            assert socket.response is not None
            assert "server" not in socket.response.headers
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.settings.port)
        writer.write(b"nonsense\r\n\r\n")
        said = (await reader.read()).lower()
        assert said.startswith(b"http/1.1 400")
        assert b"server:" not in said
        writer.close()
        async with Worker(f"{gateway.settings.websocket_url}/ws/node", "nonsense") as stranger:
            greeting = await stranger.receive()
            assert greeting["status"] == "error"
            assert VERSION not in str(greeting)


async def test_browsers_of_other_origins_are_told_nothing(api: Api) -> None:
    """Unless settings name them: no permission, before a request or with it."""
    for answer in await from_origin(api, PORTAL):
        assert not [name for name in answer.headers if name.startswith("access-control-")]


async def test_an_origin_of_the_settings_may_call(database: Database, clock: FakeClock) -> None:
    """That one and no other, and without the browser's own credentials."""
    async with rest_api(database, clock, cors_origins=(PORTAL,)) as api:
        before, answer = await from_origin(api, PORTAL)
        assert [it.headers["access-control-allow-origin"] for it in (before, answer)] == [PORTAL, PORTAL]
        assert "access-control-allow-credentials" not in answer.headers
        check(before)
        check(answer)
        for refused in await from_origin(api, "https://elsewhere.example"):
            assert "access-control-allow-origin" not in refused.headers


async def from_origin(api: Api, origin: str) -> tuple[httpx.Response, httpx.Response]:
    """What a browser asks before it sends a request with a token, and the request."""
    asks = {"Origin": origin, "Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization"}
    return await api.client.options("/nodes", headers=asks), await api("GET", "/nodes", headers={"Origin": origin})


@pytest.mark.parametrize("each", surface.PATHS, ids=lambda each: each.path)
async def test_who_may_read_what(database: Database, clock: FakeClock, each: surface.Path) -> None:
    """From elsewhere, from this machine, and with a viewer's token."""
    async with rest_api(database, clock, DAEMON, address=ELSEWHERE) as api:
        elsewhere = (await api.client.get(each.path)).status_code
        portal_token = (await api("GET", each.path)).status_code
    async with rest_api(database, clock, DAEMON) as api:
        here = (await api.client.get(each.path)).status_code
    assert (elsewhere, here, portal_token) == (each.elsewhere, each.here, each.portal_token)


class Page(HTMLParser):
    """What a page has that a browser would run, load or follow."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.styles: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] == "style" and not self.styles:
            self.styles.append(data)


async def test_the_page_needs_nothing_from_elsewhere(database: Database, clock: FakeClock) -> None:
    """No script, no picture, no link but to itself and the description; its one style is the one that the policy allows."""
    async with rest_api(database, clock, base_path="/dev/aiwm") as api:
        answer = await api.client.get("/dev/aiwm/schema")
        page = Page(answer.text)
        ids = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
        links = {attributes["href"] for tag, attributes in page.tags if tag == "a"}
        assert links <= {f"#{each}" for each in ids} | {"/dev/aiwm/schema/openapi.json"}
        assert (await api.client.get("/dev/aiwm/schema/openapi.json")).status_code == 200
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "link", "img", "iframe", "object", "form", "base"}
    names = {name for _, attributes in page.tags for name in attributes}
    assert not {name for name in names if name.startswith("on")} | (names & {"style", "src"})
    (style,) = page.styles
    digest = b64encode(sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}';" in answer.headers["content-security-policy"]


async def test_the_page_shows_every_operation(api: Api) -> None:
    """With its parameters, its answers and a line to try it with; what is written is shown, not run."""
    page = (await api.client.get("/schema")).text
    description = (await api.client.get("/schema/openapi.json")).json()
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            assert f"<code>{method.upper()} {path}</code>" in page
            assert f'id="{operation["operationId"]}"' in page
    assert "<code>metadata.&lt;key&gt;</code>" in page
    assert "&quot;$API/nodes&quot; -H &quot;Authorization: Bearer $TOKEN&quot;" in page
