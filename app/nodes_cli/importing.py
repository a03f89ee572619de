"""Many nodes from a file: each is created once, and its installation script written once, however often it is run.

A node is known again by its name. What an earlier run did, wholly or by half, is found and finished.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from app.errors import StartupError
from app.nodes_cli import scripts
from app.nodes_cli.rows import Row
from app.portal import Portal, Refused, for_each


class Imported(msgspec.Struct, rename="camel"):
    """What became of one row."""

    name: str
    id: str = msgspec.field(name="_id", default="")
    script: str = ""
    was_there: bool = False
    error: str | None = None


class _Node(msgspec.Struct):
    id: str = msgspec.field(name="_id")


class _Token(msgspec.Struct, rename="camel"):
    install_script: str


class Import:
    """One run. `done` is called after each row."""

    def __init__(
        self, portal: Portal, into: Path, *, org_id: str | None, token_seconds: int | None, done: Callable[[], None]
    ) -> None:
        self._portal = portal
        self._into = into
        self._org = {} if org_id is None else {"orgId": org_id}
        self._token = {} if token_seconds is None else {"expiresIn": token_seconds}
        self._done = done

    async def run(self, rows: Sequence[Row]) -> list[Imported]:
        """What became of each row, in their order. A row that the service refuses does not hold up the others.

        Raises StartupError where nothing can go on: no answer, no permission, no room on the disk.
        """
        scripts.folder(self._into)
        there = await self._present({row.name for row in rows})
        results = {row.line: Imported(row.name) for row in rows}

        async def bring_in(row: Row) -> None:
            await self._bring_in(row, there.get(row.name, []), results[row.line])
            self._done()

        await for_each(rows, bring_in)
        return list(results.values())

    async def _present(self, names: set[str]) -> dict[str, list[str]]:
        """The `_id`s of the nodes that have such names already."""
        found: dict[str, list[str]] = defaultdict(list)
        async for node in self._portal.nodes({"sort": "name", **self._org}):
            if node["name"] in names:
                found[node["name"]].append(node["_id"])
        return found

    async def _bring_in(self, row: Row, present: list[str], result: Imported) -> None:
        if len(present) > 1:
            result.error = f"there are {len(present)} nodes of this name already: {', '.join(present)}"
            return
        try:
            result.was_there = bool(present)
            result.id = present[0] if present else await self._create(row)
            file = scripts.file_of(self._into, row.name, result.id)
            if not file.exists():
                made = await self._portal.post(f"/nodes/{result.id}/token", _Token, self._token)
                await asyncio.to_thread(scripts.write, file, made.install_script)
            result.script = str(file)
        except Refused as refusal:
            if refusal.status != 400:
                raise
            result.error = str(refusal)

    async def _create(self, row: Row) -> str:
        return (await self._portal.post("/nodes", _Node, {**self._org, **row.body})).id


def failures(results: Sequence[Imported]) -> int:
    """How many rows were not brought in."""
    return sum(1 for it in results if it.error is not None)


def from_file(path: Path) -> str:
    """The text of a file of nodes. Raises StartupError."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise StartupError(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise StartupError(f"{path} is no text in UTF-8.") from None
