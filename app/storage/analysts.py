"""Logins for people who ask in SQL: read-only, the views of schema `history` alone, one organisation or all."""

import secrets
from pathlib import Path
from typing import Final, NamedTuple

import asyncpg

from app.errors import StartupError
from app.storage.database import Database
from app.storage.scram import verifier

STATEMENT_TIMEOUT_MS: Final = 60_000
CONNECTIONS: Final = 5
_SHORTEST: Final = 12
_LONGEST_NAME: Final = 63  # PostgreSQL cuts what is longer, and two names could become one
_GROUP: Final = "aiwm_analyst"


class Analyst(NamedTuple):
    """A login and the organisation that it sees; None for all of them."""

    login: str
    org_id: str | None


def new_password() -> str:
    """A password that nobody can guess: 192 bits in ASCII."""
    return secrets.token_urlsafe(24)


def read_password(file: Path) -> str:
    """The first line of a file. Raises StartupError where it is too short or not printable ASCII."""
    try:
        password = file.read_text().split("\n", 1)[0]
    except (OSError, UnicodeDecodeError) as error:
        raise StartupError(f"The password file {file} cannot be read: {error}.") from None
    if len(password) < _SHORTEST or not (password.isascii() and password.isprintable()):
        raise StartupError(
            f"The first line of {file} is no password: {_SHORTEST} or more printable ASCII characters are needed."
        )
    return password


async def make(database: Database, analyst: Analyst, password: str) -> None:
    """Make the login, or give it this password and organisation.

    Raises StartupError where the name is another role's, the login would come to see more than it does,
    or the database's user may not make roles.
    """
    if not 0 < len(analyst.login.encode()) <= _LONGEST_NAME or analyst.login == _GROUP:
        raise StartupError(
            f"{analyst.login!r} cannot be a login: take 1 to {_LONGEST_NAME} bytes, other than {_GROUP}."
        )
    if analyst.org_id == "":
        raise StartupError("--org is empty: name an organisation, or leave it out.")
    try:
        async with database.driver_transaction() as connection:
            await connection.execute(
                "SELECT aiwm.make_analyst($1, $2, $3, $4, $5)",
                analyst.login,
                verifier(password),
                analyst.org_id,
                STATEMENT_TIMEOUT_MS,
                CONNECTIONS,
            )
    except (asyncpg.DuplicateObjectError, asyncpg.ObjectNotInPrerequisiteStateError) as refused:
        raise StartupError(str(refused)) from None
    except asyncpg.ReservedNameError:
        raise StartupError(f"{analyst.login!r} cannot be a login: PostgreSQL keeps this name for itself.") from None
    except (asyncpg.UndefinedFunctionError, asyncpg.InvalidSchemaNameError):
        raise StartupError("The schema is too old for logins of analysts: run `aiwm db upgrade` first.") from None
    except asyncpg.InsufficientPrivilegeError as error:
        raise StartupError(
            f"The database's user may not make roles ({error}). Let an administrator of the server run "
            f"`CREATE ROLE {_GROUP} NOLOGIN` if there is none, `GRANT {_GROUP} TO user WITH ADMIN OPTION` and "
            "`ALTER ROLE user CREATEROLE`, for the user of AIWM_DATABASE_URL; then try again."
        ) from None


async def drop(database: Database, login: str) -> None:
    """Drop the login; what it still has open is refused from then on. Raises StartupError where there is none of this name."""
    try:
        async with database.driver_transaction() as connection:
            await connection.execute("SELECT aiwm.drop_analyst($1)", login)
    except asyncpg.UndefinedObjectError as refused:
        raise StartupError(str(refused)) from None
    except (asyncpg.UndefinedFunctionError, asyncpg.InvalidSchemaNameError):
        raise StartupError("The schema is too old for this: run `aiwm db upgrade` first.") from None
    except (asyncpg.InsufficientPrivilegeError, asyncpg.DependentObjectsStillExistError) as error:
        raise StartupError(
            f"The login {login!r} was not dropped ({error}): an administrator of the server can drop the role."
        ) from None
