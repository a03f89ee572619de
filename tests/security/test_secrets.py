"""Secrets and tokens are nowhere to be read: the real service is led through refusals, and all that it says is searched."""

import json
import re
import signal
import time
from pathlib import Path
from typing import Final

import httpx
import jwt
from websockets.sync.client import connect

from tests.system.client import ANSWER_SECONDS, Portal, Worker
from tests.system.conftest import ORG, Service, command_lines, free_port, running
from tests.system.test_worker import FAKE, QUICK, Daemon, wait_for

SECRETS: Final = ("first-secret-that-nobody-may-see-0001", "other-secret-that-nobody-may-see-0002")
ANY_JWT: Final = re.compile(r"eyJ[\w-]{8,}\.eyJ[\w-]{8}")
"""How two JSON objects begin in base64: no token looks otherwise. The document's own example ends before the second."""


def portal_token(secret: str = SECRETS[0], expires_in: int = 3600, **claims: str) -> str:
    """As the portal makes one."""
    body = {"sub": "user", "orgId": ORG, "role": "operator", "exp": int(time.time()) + expires_in}
    return jwt.encode(body | claims, secret, algorithm="HS256")


def refused_at_rest(service: Service, tokens: list[str]) -> list[str]:
    """Each token in the header, and where it should not be: all of the answers, headers too."""
    found = []
    with httpx.Client(base_url=service.url, timeout=ANSWER_SECONDS, trust_env=False) as http:
        for token in tokens:
            bearer = {"Authorization": f"Bearer {token}"}
            for answer in (
                http.get("/nodes", headers=bearer),
                http.post("/nodes", headers=bearer, content=b"{"),
                http.get("/nodes", headers={"Authorization": token}),
                http.get("/nodes", params={"access_token": token}),
                http.get("/nowhere", params={"token": token}, headers=bearer),
                http.get("/nodes", headers={"Cookie": f"token={token}"}),
                http.get("/metrics", headers=bearer | {"X-Forwarded-For": "192.0.2.1"}),
            ):
                found += [answer.text, str(answer.headers)]
        found += [http.get(path).text for path in ("/metrics", "/schema/openapi.json", "/health/ready")]
    return found


def refused_at_the_socket(service: Service, tokens: list[str]) -> list[str]:
    """Each token in the header, in the first frame, in a frame that is none, and in the address."""
    found = []
    for token in tokens:
        for in_header in (True, False):
            with Worker(service.ws_url, token, in_header=in_header) as worker:
                found.append(str(worker.receive("CONNECTION_ACK")))
                worker.closed()
        for query, frame in (("", f'{{"auth": "{token}"}}'), (f"?token={token}", "{}")):
            with connect(f"{service.ws_url}/ws/node{query}", proxy=None) as socket:
                socket.send(frame)
                found.append(str(json.loads(socket.recv(timeout=ANSWER_SECONDS))))
    return found


def seen_in(said: list[str], hidden: list[str]) -> list[str]:
    """What stands there that should not: a secret, a token, a part of one, anything that looks like one."""
    text = "\n".join(said)
    return [each for each in hidden if each in text] + ANY_JWT.findall(text)


def test_nothing_that_the_service_says_has_a_secret_or_a_token_in_it(tmp_path: Path) -> None:
    """Its log at its most talkative, its answers, its metrics, its clients' output, and the list of processes."""
    settings = {
        "AIWM_JWT_SECRET": ",".join(SECRETS),
        "AIWM_LOG_LEVEL": "debug",
        "AIWM_WORKERS": "2",
        "AIWM_JWT_ALLOW_HS256": "true",
        "AIWM_JWT_JWKS_URL": f"http://127.0.0.1:{free_port()}/jwks.json",
        "AIWM_JWT_ISSUER": "https://login.test",
        "AIWM_JWT_AUDIENCE": "aiwm",
    }
    with running(tmp_path, free_port(), **settings) as service:
        with Portal(service.url, portal_token()) as portal:
            good, deleted, disabled = (str(portal.create()["_id"]) for _ in range(3))
            node_tokens = [portal.node_token(node_id) for node_id in (good, deleted, disabled)]
            portal.call("DELETE", f"/nodes/{deleted}", 200)
            portal.call("DELETE", f"/nodes/{disabled}/token", 200)
            with Worker(service.ws_url, node_tokens[0]) as worker:
                worker.register()
            shown = [str(portal.node(good)), str(portal.call("GET", f"/nodes/{good}/events", 200))]
        bad = [
            portal_token(expires_in=-60),
            portal_token("a-secret-of-somebody-elses-altogether"),
            portal_token(aud="another"),
            portal_token(role="root"),
            portal_token(role="viewer"),
            portal_token()[:-6],
        ]
        said = [
            *shown,
            *refused_at_rest(service, [*bad, *node_tokens]),
            *refused_at_the_socket(service, [*bad, *node_tokens[1:]]),
        ]
        # A client that speaks both: REST for its nodes and their tokens, and a socket for each.
        client = service.run(
            *("simulate", "--nodes", "1", "--gpus", "1", "--duration", "1", "--url", service.url),
            AIWM_TOKEN=portal_token(),
        )
        said.append(client.stdout + client.stderr)
        running_now = "\n".join(command_lines())
        assert service.stop() == 0
    # It was talkative, and it was there that it was refused.
    assert all(word in service.log for word in ("DEBUG", "Refused: INVALID_TOKEN", "Refused: NODE_NOT_FOUND"))
    assert "cannot be fetched" in service.log
    assert client.returncode == 0, said[-1]
    tokens = [portal_token(), *bad, *node_tokens]
    hidden = [*SECRETS, *tokens, *(token.rpartition(".")[2] for token in tokens)]
    assert seen_in([service.log, *said], hidden) == []
    assert [each for each in hidden if each in running_now] == []


def test_nothing_that_the_daemon_says_has_its_token_in_it(tmp_path: Path) -> None:
    """Connected and refused: its output, what it keeps on disk but for the token, and its command line."""
    port = free_port()
    with running(tmp_path, port, **QUICK) as service:
        daemon = Daemon(tmp_path / "machine", service, FAKE)
        try:
            daemon.start()
            wait_for(lambda: "Connected to" in daemon.log, "a connection")
            daemon.measures(1)
            running_now = "\n".join(command_lines())
            with service.portal() as portal:
                portal.call("DELETE", f"/nodes/{daemon.node_id}/token", 200)
            wait_for(lambda: "Make a new token" in daemon.log, "the refusal")
            assert daemon.end(signal.SIGTERM) == 0
        finally:
            daemon.kill_if_running()
    kept = [file for file in (tmp_path / "machine").rglob("*") if file.is_file() and file.name != "token"]
    hidden = [daemon.token, daemon.token.rpartition(".")[2]]
    assert "tests.samplers" in running_now
    assert any(file.name == "daemon.log" for file in kept)
    assert seen_in([running_now, *(file.read_bytes().decode("latin-1") for file in kept)], hidden) == []
