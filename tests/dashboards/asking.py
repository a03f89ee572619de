"""Queries asked as Grafana asks them: by a login that reads the views alone, one after another."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

import asyncpg

from tests.dashboards.answers import Answer
from tests.dashboards.boards import Json, Query, interval, variables
from tests.dashboards.expander import All, TimeRange, Value, expand

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Options = dict[str, list[str]]
"""What can be chosen, by variable."""


async def ask(connection: Connection, sql: str) -> Answer:
    """The rows of a statement. Raises asyncpg.PostgresError."""
    statement = await connection.prepare(sql)
    columns = [(attribute.name, attribute.type.name) for attribute in statement.get_attributes()]
    return Answer(columns, [tuple(row) for row in await statement.fetch()])


def expanded(query: Query, values: Mapping[str, Value], length: timedelta) -> str:
    """The text that the database is sent, of a range that ends now. Raises ExpansionError."""
    end = datetime.now(UTC)
    return expand(query.sql, values, TimeRange(end - length, end), interval(query.owner, length)).sql


async def options(connection: Connection, board: Json, length: timedelta) -> Options:
    """What each variable offers while All is chosen of those before it, or else its first value."""
    found: Options = {}
    values: dict[str, Value] = {}
    for variable in variables(board):
        name = variable["name"]
        if variable["type"] == "query":
            query = Query(name, "variable", variable["query"], "table", variable)
            answer = await ask(connection, expanded(query, values, length))
            place = answer.names.index("__value") if "__value" in answer.names else 0
            found[name] = [str(row[place]) for row in answer.rows]
        else:
            found[name] = [str(variable["current"]["value"])]
        values[name] = All(variable["allValue"]) if variable.get("includeAll") else "".join(found[name][:1])
    return found


def choices(board: Json, offered: Options) -> dict[str, dict[str, Value]]:
    """All of each variable (where only one can be chosen: each in turn), one, many, and the last of each by itself."""
    everything: dict[str, Value] = {}
    one: dict[str, Value] = {}
    many: dict[str, Value] = {}
    found: dict[str, dict[str, Value]] = {}
    for variable in variables(board):
        name = variable["name"]
        first = "".join(offered[name][:1])
        everything[name] = All(variable["allValue"]) if variable.get("includeAll") else first
        one[name] = [first] if variable.get("multi") else first
        many[name] = offered[name] or [first] if variable.get("multi") else first
    for variable in variables(board):
        name = variable["name"]
        if not variable.get("includeAll"):
            found |= {f"All, {name} {value}": everything | {name: value} for value in offered[name]}
        elif offered[name]:
            found[f"the last {name}"] = everything | {name: offered[name][-1:]}
    return {"All": everything, "one": one, "many": many, **found}
