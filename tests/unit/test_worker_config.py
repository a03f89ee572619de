"""Where the daemon finds what it must know, and the sentences where it does not."""

import base64
import json
from pathlib import Path

import pytest

from app.worker import config
from app.worker.config import ConfigError
from app.worker.tokens import NoToken, Tokens, claims

NODE_ID = "673e7a1f5c9d8e001234abcd"
ENDPOINT = {"HYDRA_CONTROLLER_ENDPOINT": "ws://controller:3305", "HYDRA_NODE_ID": NODE_ID}


def jwt(issued_at: int, expires_at: int = 2_000_000_000, subject: str = NODE_ID) -> str:
    """A token as far as the daemon reads it."""
    body = json.dumps({"sub": subject, "iat": issued_at, "exp": expires_at}).encode()
    return f"header.{base64.urlsafe_b64encode(body).decode().rstrip('=')}.signature"


def test_the_environment_comes_before_the_file(tmp_path: Path) -> None:
    """The file is a shell's: blanks, quotes, comments and empty lines."""
    (tmp_path / "config.env").write_text(
        f'# Node: $(rm -rf /)";\n\nHYDRA_CONTROLLER_ENDPOINT="https://a.example/base/"\n'
        f"HYDRA_NODE_ID='{NODE_ID}'\nHYDRA_SPOOL_MEGABYTES=1\nHYDRA_STATE_DIR=/somewhere\n"
    )
    found = config.read({}, tmp_path)
    assert found.url == "wss://a.example/base/ws/node"
    assert found.node_id == NODE_ID
    assert found.spool_bytes == 2**20
    assert found.state_dir == Path("/somewhere") / NODE_ID
    assert found.token_file == tmp_path / "token"
    assert config.read(ENDPOINT, tmp_path).url == "ws://controller:3305/ws/node"


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("ws://localhost:3305", "ws://localhost:3305/ws/node"),
        ("http://localhost:3305/", "ws://localhost:3305/ws/node"),
        ("wss://[::1]/dev/aiwm", "wss://[::1]/dev/aiwm/ws/node"),
        ("wss://a.example/ws/node", "wss://a.example/ws/node"),
    ],
)
def test_an_endpoint_becomes_the_address_of_the_websocket(tmp_path: Path, endpoint: str, url: str) -> None:
    """With or without the path, by either pair of schemes."""
    assert config.read(ENDPOINT | {"HYDRA_CONTROLLER_ENDPOINT": endpoint}, tmp_path).url == url


@pytest.mark.parametrize(
    ("environ", "name"),
    [
        ({}, "HYDRA_CONTROLLER_ENDPOINT is not set"),
        ({"HYDRA_CONTROLLER_ENDPOINT": "controller"}, "looks like ws://"),
        ({"HYDRA_CONTROLLER_ENDPOINT": "ftp://controller"}, "looks like ws://"),
        ({"HYDRA_CONTROLLER_ENDPOINT": "ws://controller:port"}, "looks like ws://"),
        ({"HYDRA_CONTROLLER_ENDPOINT": "ws://user:secret@controller"}, "looks like ws://"),
        (ENDPOINT | {"HYDRA_NODE_ID": "../../etc"}, "HYDRA_NODE_ID"),
        (ENDPOINT | {"HYDRA_NODE_ID": ""}, "installation script"),
        (ENDPOINT | {"HYDRA_NODE_ID": "", "HYDRA_NODE_TOKEN": "nonsense"}, "HYDRA_NODE_ID"),
        (ENDPOINT | {"HYDRA_SPOOL_MEGABYTES": "0"}, "HYDRA_SPOOL_MEGABYTES"),
        (ENDPOINT | {"HYDRA_SPOOL_MEGABYTES": "much"}, "HYDRA_SPOOL_MEGABYTES"),
    ],
)
def test_what_is_missing_or_wrong_is_named(tmp_path: Path, environ: dict[str, str], name: str) -> None:
    """One sentence for the person who set it up."""
    with pytest.raises(ConfigError, match=name):
        config.read(environ, tmp_path)


def test_a_password_in_the_endpoint_is_not_repeated(tmp_path: Path) -> None:
    """The sentence goes to a log."""
    with pytest.raises(ConfigError) as refusal:
        config.read(ENDPOINT | {"HYDRA_CONTROLLER_ENDPOINT": "ws://user:secret@controller"}, tmp_path)
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize("line", ["HYDRA_NODE_ID", "HYDRA_NODE_ID=a b", "HYDRA_NODE_ID='a"])
def test_a_line_that_is_none_is_named(tmp_path: Path, line: str) -> None:
    """The number of the line stands in the sentence."""
    (tmp_path / "config.env").write_text(f"# first\n{line}\n")
    with pytest.raises(ConfigError, match=r"Line 2 of .*config\.env"):
        config.read({}, tmp_path)


def test_a_token_says_whose_it_is(tmp_path: Path) -> None:
    """Where nothing else does; and it is in no text of the configuration."""
    environ = {"HYDRA_CONTROLLER_ENDPOINT": "ws://controller", "HYDRA_NODE_TOKEN": jwt(1)}
    found = config.read(environ, tmp_path)
    assert found.node_id == NODE_ID
    assert jwt(1) not in repr(found)
    (tmp_path / "token").write_text(jwt(1) + "\n")
    assert config.read({"HYDRA_CONTROLLER_ENDPOINT": "ws://controller"}, tmp_path).node_id == NODE_ID


class TestTokens:
    """Of an installed token and a renewed one the younger counts."""

    def test_the_one_that_was_issued_last_counts(self, tmp_path: Path) -> None:
        """A renewed one takes over from the installed one, and a newly installed one from that."""
        tokens = Tokens(tmp_path / "etc-token", tmp_path / "state" / "token")
        (tmp_path / "etc-token").write_text(jwt(100) + "\n")
        assert tokens.current() == jwt(100)
        tokens.renew(jwt(200))
        assert tokens.current() == jwt(200)
        assert Tokens(tmp_path / "etc-token", tmp_path / "state" / "token").current() == jwt(200)
        (tmp_path / "etc-token").write_text(jwt(300))
        assert tokens.current() == jwt(300)
        assert (tmp_path / "state" / "token").stat().st_mode & 0o777 == 0o600

    def test_a_disk_that_does_not_take_it_leaves_the_old_file_whole(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The new token counts until the process ends, and no half of it lies about."""
        tokens = Tokens(tmp_path / "none", tmp_path / "token")
        tokens.renew(jwt(100))

        def full(_: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("os.fsync", full)
        with pytest.raises(OSError, match="No space"):
            tokens.renew(jwt(200))
        assert (tmp_path / "token").read_text() == jwt(100) + "\n"
        assert [it.name for it in tmp_path.iterdir()] == ["token"]
        assert tokens.current() == jwt(200)

    def test_no_token_is_a_sentence(self, tmp_path: Path) -> None:
        """It names the file and what to do."""
        with pytest.raises(NoToken, match=r"etc-token.*installation script"):
            Tokens(tmp_path / "etc-token", tmp_path / "token").current()
        (tmp_path / "etc-token").mkdir()
        with pytest.raises(NoToken, match="cannot be read"):
            Tokens(tmp_path / "etc-token", tmp_path / "token").current()

    def test_it_may_be_renewed_in_the_last_third_of_its_life(self) -> None:
        """Issued at 100 for 300 seconds: from 300 on."""
        assert claims(jwt(100, 400)).renewable_at == 300
        assert claims(jwt(100, 400)).life == 300

    @pytest.mark.parametrize("text", ["", "a", "a.b.c", "a.####.c", "a.W10.c", "a.bnVsbA.c", "ä.ö.ü"])
    def test_what_is_no_token_says_nothing(self, text: str) -> None:
        """Whatever the text is, reading it fails nowhere."""
        assert claims(text) == (None, None, None)
