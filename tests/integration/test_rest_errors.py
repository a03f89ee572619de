"""Errors over HTTP: one JSON shape, nothing of the inside, and the right status."""

import logging
import re
from typing import Any

import pytest
from sqlalchemy import text

from app.clock import SystemClock
from app.storage.database import Database
from tests.fakes import FakeClock
from tests.rest_app import Api, rest_api

BODY = {"statusCode", "error", "message", "path", "timestamp"}


def check(answer: Any, status: int, path: str, **more: Any) -> None:
    body = answer.json()
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"].startswith("application/json")
    assert set(body) == BODY | set(more) | ({"details"} if status == 400 else set())
    assert (body["statusCode"], body["path"]) == (status, path)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", body["timestamp"])
    assert not re.search("Traceback|SELECT|File|asyncpg|sqlalchemy", answer.text)


@pytest.mark.parametrize(
    ("header", "error"),
    [
        (None, "Unauthorized"),
        ("", "Unauthorized"),
        ("Bearer", "Unauthorized"),
        ("Bearer ", "Unauthorized"),
        ("Basic dXNlcjpwYXNz", "Unauthorized"),
        ("Bearer x.y.z", "Unauthorized"),
    ],
)
async def test_no_token_no_answer(database: Database, clock: FakeClock, header: str | None, error: str) -> None:
    """401 before the id, the body or the parameters are looked at."""
    async with rest_api(database, clock) as api:
        headers = {} if header is None else {"Authorization": header}
        for method, path in [("GET", "/nodes?x=1"), ("POST", "/nodes"), ("GET", "/nodes/x"), ("PUT", "/nodes/x")]:
            answer = await api.client.request(method, path, headers=headers, content=b"{")
            check(answer, 401, path.partition("?")[0])
            assert answer.json()["error"] == error
            assert answer.headers["WWW-Authenticate"] == "Bearer"


async def test_the_scheme_is_not_case_sensitive(database: Database, clock: FakeClock) -> None:
    """RFC 9110."""
    async with rest_api(database, clock) as api:
        answer = await api.client.get("/nodes", headers={"Authorization": f"bearer {api.token()}"})
        assert answer.status_code == 200


async def test_a_token_without_org(database: Database, clock: FakeClock) -> None:
    """403."""
    async with rest_api(database, clock) as api:
        check(await api("GET", "/nodes", org=None), 403, "/nodes")


@pytest.mark.parametrize("base_path", ["", "/dev/aiwm"])
async def test_unknown_paths_and_methods(database: Database, clock: FakeClock, base_path: str) -> None:
    """404 and 405 in the same shape; the path is the one that was asked for."""
    async with rest_api(database, clock, base_path=base_path) as api:
        check(await api("GET", f"{base_path}/nothing?secret=1"), 404, f"{base_path}/nothing")
        check(await api("GET", f"{base_path}/schema/nothing"), 404, f"{base_path}/schema/nothing")
        check(await api("GET", f"{base_path}/schema/a/b.json"), 404, f"{base_path}/schema/a/b.json")
        answer = await api("PATCH", f"{base_path}/nodes")
        check(answer, 405, f"{base_path}/nodes")
        assert "GET" in answer.headers["Allow"]
        check(await api("GET", f"{base_path}/nodes/{'0' * 24}"), 404, f"{base_path}/nodes/{'0' * 24}")
        assert (await api("GET", f"{base_path}/nodes")).status_code == 200
        assert (await api("GET", f"{base_path}/health/live")).status_code == 200
        if base_path:
            check(await api("GET", "/nodes"), 404, "/nodes")


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b" ", b"{", b"[]", b"null", b'"x"', b"{}x", b"\xff\xfe", b"[" * 20_000),
        *(b'{"name": "\xff"}', b'{"name": "\\ud800"}', b'{"metadata": {"a": 1e400}}'),
        b'{"metadata": ' + b'{"a":' * 5_000 + b"1" + b"}" * 5_000 + b"}",
    ],
)
async def test_a_body_that_is_no_json_object(database: Database, clock: FakeClock, body: bytes) -> None:
    """400 with details."""
    async with rest_api(database, clock) as api:
        answer = await api("POST", "/nodes", body)
        check(answer, 400, "/nodes")
        assert answer.json()["details"]


async def test_a_body_that_is_too_large(database: Database, clock: FakeClock) -> None:
    """413."""
    async with rest_api(database, clock) as api:
        check(await api("POST", "/nodes", b" " * 300_000), 413, "/nodes")


@pytest.mark.parametrize("path", ["/socket.io", "/socket.io/", "/socket.io/?EIO=4&transport=polling", "/socket.io/a/b"])
async def test_a_socket_io_client_is_told(database: Database, clock: FakeClock, path: str) -> None:
    """Whatever it tries."""
    async with rest_api(database, clock) as api:
        for method in ("GET", "POST", "PUT", "DELETE"):
            answer = await api.client.request(method, path)
            check(answer, 404, path.partition("?")[0].rstrip("/"))
            assert "plain WebSocket at /ws/node" in answer.json()["message"]


async def test_health(database: Database, clock: FakeClock) -> None:
    """Open to all; ready only with the newest migration."""
    async with rest_api(database, clock) as api:
        for path in ("/health/live", "/health/ready"):
            answer = await api.client.get(path)
            assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
        async with database.transaction() as connection:
            await connection.execute(text("UPDATE alembic_version SET version_num = '0000'"))
        check(await api.client.get("/health/ready"), 503, "/health/ready")


async def test_the_database_is_away() -> None:
    """503, and the service lives on."""
    away = Database("postgresql://nobody@127.0.0.1:1/nothing")
    async with rest_api(away, SystemClock()) as api:
        for method, path in [("GET", "/nodes"), ("GET", f"/nodes/{'0' * 24}"), ("GET", "/health/ready")]:
            check(await api(method, path), 503, path)
        check(await api("POST", "/nodes", {"name": "n", "role": ["worker"]}), 503, "/nodes")
        assert (await api.client.get("/health/live")).status_code == 200
    await away.close()


async def test_a_defect_gets_a_number_that_the_log_has(
    database: Database, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """And tells the client nothing else; no token stands in the log."""
    async with rest_api(database, clock) as api:
        async with database.transaction() as connection:
            await connection.execute(text("ALTER TABLE nodes RENAME TO elsewhere"))
        with caplog.at_level(logging.ERROR):
            answer = await api("GET", "/nodes")
        check(answer, 500, "/nodes", requestId=True)
        assert answer.json()["message"] == "Internal server error"
        assert answer.json()["requestId"] in caplog.text
        assert api.token() not in caplog.text


async def test_a_caller_is_verified_once(api_calls: list[str], database: Database, clock: FakeClock) -> None:
    """And a portal token without a word to the database: 401 comes also while that is away."""
    async with rest_api(database, clock) as api:
        count_verifications(api, api_calls)
        await api("POST", "/nodes", {"name": "n", "role": ["worker"]})
        assert len(api_calls) == 1


@pytest.fixture
def api_calls() -> list[str]:
    return []


def count_verifications(api: Api, calls: list[str]) -> None:
    verify = api.tokens.verify_portal

    def counted(token: str) -> Any:
        calls.append(token)
        return verify(token)

    api.tokens.verify_portal = counted  # type: ignore[method-assign]
