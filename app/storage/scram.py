"""What PostgreSQL keeps of a password (RFC 5803), made here so that the password itself never leaves the program."""

import hashlib
import hmac
import secrets
from base64 import b64encode
from typing import Final

ITERATIONS: Final = 4096  # PostgreSQL's own number


def verifier(password: str) -> str:
    """`SCRAM-SHA-256$<iterations>:<salt>$<stored key>:<server key>` of an ASCII password, with a new salt."""
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode("ascii"), salt, ITERATIONS)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    return f"SCRAM-SHA-256${ITERATIONS}:{_text(salt)}${_text(stored)}:{_text(server)}"


def _text(raw: bytes) -> str:
    return b64encode(raw).decode()
