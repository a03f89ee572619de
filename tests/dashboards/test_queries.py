"""Every query of every dashboard and alert rule, asked of each storage engine: with a fleet, and with nothing."""

from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import timedelta

import asyncpg
import pytest

from tests.dashboards.answers import Answer, others, unfit
from tests.dashboards.asking import Connection, ask, choices, expanded, options
from tests.dashboards.boards import RULES, Json, Query, alert_queries, default_range, queries, read_boards, variables
from tests.dashboards.conftest import Place
from tests.dashboards.expander import ExpansionError, Value
from tests.dashboards.sample import CHOSEN, board, target
from tests.databases import WITH_ROLES

BOARDS = read_boards()
OTHER_RANGES = (timedelta(hours=2), timedelta(days=2), timedelta(days=20), timedelta(days=80))
"""Each of them is served by another rollup."""

EMPTY_ON = {
    "TimescaleDB": set[str](),
    "TimescaleDB (Apache edition)": set[str](),
    "PostgreSQL": {"panel 'Jobs'"},
}
"""What a storage engine has not: PostgreSQL alone has no jobs of its own."""

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize("name", BOARDS)
async def test_every_query_of_a_dashboard_answers_what_its_panel_shows(place: Place, name: str) -> None:
    """With All, one and many of each variable, at the range that it opens with: no error, columns that fit, rows."""
    faults = [fault async for fault in faults_of(place, BOARDS[name])]
    assert not faults, "\n".join(faults)


FAULTS = {
    "misspelt column": ("power_usage_avg", "power_usage_average", 'column "power_usage_average" does not exist'),
    "misspelt macro": ("$__timeFilter(time)", "$__timefilter(time)", 'unknown macro "__timefilter"'),
    "a table of ours": ("history.gpu_metrics_1h", "aiwm.gpu_metrics_1h", "aiwm"),
    "descending": ("ORDER BY time", "ORDER BY time DESC", "does not ascend by time"),
    "no time": ("SELECT time,", 'SELECT time AS "when",', "without a column called time"),
    "text for a number": ("AS watts", "::text AS watts", "is a timeseries without a number"),
    "no rows": ("WHERE ", "WHERE time < '1999-01-01' AND ", "panel 'Power' has no rows"),
    "node forgotten": (CHOSEN, "node_id IS NOT NULL", "shows nodes that were not chosen"),
    "All forgotten": ("'__all__' IN (${node:sqlstring}) OR ", "", "has no rows"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("place", [("postgresql", True)], indirect=True, ids=["postgresql-fleet"])
async def test_a_broken_query_is_seen(place: Place, fault: str) -> None:
    """One fault in the sample's queries; without it there is none."""
    old, new, sentence = FAULTS[fault]
    faulty = board()
    assert [found async for found in faults_of(place, faulty)] == []
    for number in (1, 2):
        target(faulty, number)["rawSql"] = target(faulty, number)["rawSql"].replace(old, new)
    found = [one async for one in faults_of(place, faulty)]
    assert any(sentence in one for one in found), found


@pytest.mark.parametrize("name", BOARDS)
async def test_every_range_is_served(place: Place, name: str) -> None:
    """By whichever rollup: no error, and columns of the same names and types."""
    dashboard = BOARDS[name]
    offered = await options(place.grafana, dashboard, default_range(dashboard))
    values = choices(dashboard, offered)["All"]
    faults = []
    for length in OTHER_RANGES:
        for query in queries(dashboard):
            answer = await answered(place.grafana, query, values, length)
            found = [answer] if isinstance(answer, str) else unfit(query, answer)
            faults += [f"{query.place} over {length}: {sentence}" for sentence in found]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("name", BOARDS)
@pytest.mark.parametrize("place", [(server, True) for server in WITH_ROLES], indirect=True, ids=WITH_ROLES)
async def test_a_tenant_sees_nothing_of_others(place: Place, name: str) -> None:
    """The same dashboards with a login of one organisation: no error, and no node that is another's."""
    if place.tenant is None:
        raise AssertionError(place)
    dashboard = BOARDS[name]
    length = default_range(dashboard)
    values = choices(dashboard, await options(place.tenant, dashboard, length))["All"]
    own = [str(row[0]) for row in (await ask(place.tenant, "SELECT node_id FROM history.nodes")).rows]
    faults = []
    for query in queries(dashboard):
        answer = await answered(place.tenant, query, values, length)
        if isinstance(answer, str):
            faults.append(f"{query.place}: {answer}")
        elif found := others(answer, "node_id", own):
            faults.append(f"{query.place} shows nodes of another organisation: {found}.")
    assert not faults, "\n".join(faults)


async def test_every_alert_query_is_answered(place: Place) -> None:
    """As the server asks it, without a browser: one number for each set of labels."""
    faults = []
    for query, length in alert_queries(RULES.read_text()):
        answer = await answered(place.grafana, query, {}, length)
        if isinstance(answer, str):
            faults.append(f"{query.place}: {answer}")
        elif len(answer.numbers) != 1:
            faults.append(f"{query.place} needs exactly one number: {', '.join(answer.names)}.")
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("place", [("postgresql", True)], indirect=True)
@pytest.mark.parametrize("title", ["Hotter than others of their model", "Power unlike others of their model"])
async def test_a_node_that_is_looked_at_alone_is_compared_with_the_fleet(place: Place, title: str) -> None:
    """What stands out among all stands out when its node is chosen, by as much."""
    health = next(board for name, board in BOARDS.items() if "health" in name)
    length = default_range(health)
    values = choices(health, await options(place.grafana, health, length))["All"]
    (query,) = (query for query in queries(health) if title in query.place)
    whole = await answered(place.grafana, query, values, length)
    assert isinstance(whole, Answer)
    assert whole.rows
    for node in {row[whole.names.index("node_id")] for row in whole.rows}:
        alone = await answered(place.grafana, query, {**values, "node": [node]}, length)
        assert isinstance(alone, Answer)
        assert alone.rows == [row for row in whole.rows if node in row]


async def faults_of(place: Place, board: Json) -> AsyncIterator[str]:
    """A sentence for each query, and each choice of variables, whose answer its panel cannot show."""
    length = default_range(board)
    empty = {query.place for query in queries(board)}
    for label, values in choices(board, await options(place.grafana, board, length)).items():
        for query in queries(board):
            answer = await answered(place.grafana, query, values, length)
            if isinstance(answer, str):
                yield f"{query.place} with {label}: {answer}"
                continue
            for sentence in (*unfit(query, answer), *strays(board, values, query, answer)):
                yield f"With {label}: {sentence}"
            if label.startswith("All") and answer.rows:
                empty.discard(query.place)
    if place.has_fleet:
        for one in sorted(empty - EMPTY_ON[place.engine]):
            yield f"{one} has no rows, although the fleet has what it asks for."


async def answered(
    connection: Connection, query: Query, values: Mapping[str, Value], length: timedelta
) -> Answer | str:
    """The answer, or the sentence of Grafana or the database that refuses."""
    try:
        return await ask(connection, expanded(query, values, length))
    except (asyncpg.PostgresError, ExpansionError) as error:
        return f"{error}\n{query.sql}"


def strays(board: Json, values: Mapping[str, Value], query: Query, answer: Answer) -> Iterator[str]:
    """Nodes that were not chosen, where some were."""
    chosen = values.get("node")
    if query.kind == "panel" and isinstance(chosen, str | list) and any(v["name"] == "node" for v in variables(board)):
        allowed = [chosen] if isinstance(chosen, str) else chosen
        if found := others(answer, "node_id", allowed):
            yield f"{query.place} shows nodes that were not chosen: {', '.join(sorted(found))}."
