"""Parts of SQL that several panels share: what was chosen, and which rollup serves a range.

Grafana puts variables and macros in as text. A macro's arguments end at the first closing parenthesis, and All is the
literal '__all__', never a list of thousands of ids. Conditions on constants are folded when the statement is planned:
a branch that does not apply costs nothing.
"""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

HOUR: Final = 3600
DAY: Final = 24 * HOUR

IDLE: Final = 5
"""A GPU that is used less than this, in %, is idle."""
FREE_MEMORY: Final = 0.9
"""An idle GPU with at least this share of its memory free is free: nobody has put anything on it."""

BY_METADATA: Final = """
    SELECT node_id FROM history.nodes CROSS JOIN LATERAL jsonb_each_text(metadata) AS noted (key, value)
    WHERE ('__all__' IN (${metadata_key:sqlstring}) OR noted.key IN (${metadata_key:sqlstring}))
      AND noted.value IN (${metadata_value:sqlstring})
"""
BY_MODEL: Final = "SELECT node_id FROM history.gpus WHERE gpu_model IN (${model:sqlstring})"

RANGE: Final = "$__unixEpochTo() - $__unixEpochFrom()"
SETTLED: Final = "to_timestamp(floor(($__unixEpochTo() - 4500) / 3600) * 3600)"
"""An hour that begins before this is computed; newer ones are added up from raw samples when they are asked for."""
LAST_HOUR: Final = f"time >= to_timestamp(floor(($__unixEpochTo() - 4500) / 3600) * 3600 - 3600) AND time < {SETTLED}"
"""The newest hour that is settled."""
WHOLE_DAYS: Final = "to_timestamp(floor(($__unixEpochTo() - 21600) / 86400) * 86400)"
"""The same of days, UTC, six hours after they are over."""
FROM: Final = "$__timeFrom()::timestamptz"
TO: Final = "$__timeTo()::timestamptz"


def chosen(variable: str, column: str) -> str:
    """Whether a row has one of the chosen values; All is every value, NULL too."""
    return f"('__all__' IN (${{{variable}:sqlstring}}) OR {column} IN (${{{variable}:sqlstring}}))"


ONE_NODE: Final = "node_key = ANY (ARRAY(SELECT node_key FROM history.nodes WHERE node_id IN (${node:sqlstring})))"
"""Rows of one node: its key is looked up first, so that the index of a rollup finds them."""


def nodes_chosen(alias: str = "") -> str:
    """For rows of nodes: those of the chosen orgs, ids and metadata that have a GPU of a chosen model."""
    return f"{_chosen(alias)}\n  AND ('__all__' IN (${{model:sqlstring}}) OR {_of(alias)}node_id IN ({BY_MODEL}))"


def gpus_chosen(alias: str = "") -> str:
    """For rows of GPUs: those of the chosen orgs, nodes, metadata and models."""
    return f"{_chosen(alias)}\n  AND {chosen('model', f'{_of(alias)}gpu_model')}"


def nodes_measured() -> str:
    """For rows of nodes in rollups: the same, by key; no filter at all where everything is chosen."""
    return _by_key(("org", "node", "model", "metadata_value"), nodes_chosen())


def gpus_measured() -> str:
    """For rows of GPUs in rollups: the same, by key.

    A bare comparison would make the views' outer join of the model an inner one, of whose rows the planner expects one
    of 25, and looks up the node of each of the rest by itself.
    """
    model = "('__all__' IN (${model:sqlstring}) OR coalesce(gpu_model IN (${model:sqlstring}), false))"
    return f"{_by_key(('org', 'node', 'metadata_value'), _chosen(''))}\n  AND {model}"


def bucket(time: str = "time") -> str:
    """The start of the panel's interval that a time lies in, on every storage engine."""
    return f"date_bin(make_interval(secs => $__interval_ms / 1000.0), {time}, 'epoch'::timestamptz)"


class Rung(NamedTuple):
    """A view, up to which range in seconds it serves (None: any), and how many seconds its buckets are long."""

    view: str
    longest: int | None
    width: int


GPU_LADDER: Final = (
    Rung("gpu_metrics_5m", 6 * HOUR, 300),
    Rung("gpu_metrics_1h", 3 * DAY, HOUR),
    Rung("gpu_metrics_1d", None, DAY),
)
"""Each GPU of the fleet."""
FLEET_LADDER: Final = (
    Rung("gpu_metrics_5m_by_node", 6 * HOUR, 300),
    Rung("gpu_metrics_1h_by_node", 31 * DAY, HOUR),
    Rung("gpu_metrics_1d", None, DAY),
)
"""The GPUs of the fleet together: of each node, or each of them."""
HISTOGRAM_LADDER: Final = GPU_LADDER[1:]
"""Each GPU of the fleet, with histograms."""
WEEK_LADDER: Final = (
    *GPU_LADDER[:2],
    *FLEET_LADDER[1:],
)
"""Each GPU of the fleet, over weeks each node, so that hours of a whole fleet stay quick."""
MODELS: Final = "SELECT DISTINCT node_id, gpu_model FROM history.gpus WHERE removed_at IS NULL"
"""A node that has GPUs of several models counts to each of them."""
NODE_GPU_LADDER: Final = (
    Rung("gpu_metrics", 3 * HOUR, 60),
    Rung("gpu_metrics_5m", DAY, 300),
    Rung("gpu_metrics_1h", 31 * DAY, HOUR),
    Rung("gpu_metrics_1d", None, DAY),
)
"""The GPUs of one node."""
NODE_LADDER: Final = (
    Rung("node_metrics", 3 * HOUR, 60),
    Rung("node_metrics_5m", DAY, 300),
    Rung("node_metrics_1h", 31 * DAY, HOUR),
    Rung("node_metrics_1d", None, DAY),
)
"""One node itself."""


IDLE_SAMPLES: Final = "(utilization_hist).counts[1] + (utilization_hist).counts[2]"
"""How many samples were idle: the histogram counts from 0 in steps of 5 %, its first count is what lies below."""


def measured(ladder: tuple[Rung, ...], columns: str, where: str, *, settled: bool = False) -> str:
    """Rows of the rollup that serves the range, as a table in parentheses.

    In `columns`, `hours` is how long a bucket has lasted so far, `step` how long it is, and `<field>_sum` the GPUs' means added up, which
    only rows of nodes have: a GPU's own row is its mean. Days count when they are over, so do hours where `settled`
    forgoes the last one or two of them. A raw sample is the mean, least and most of itself.
    """
    return "(\n" + "\nUNION ALL\n".join(_branches(ladder, columns, where, settled=settled)) + "\n) AS measured"


def steps_of(ladder: tuple[Rung, ...], *, settled: bool = False) -> str:
    """The sentence about it for descriptions."""
    names = {60: "samples", 300: "steps of 5 minutes", HOUR: "hours that are over" if settled else "hours"}
    shorter = (
        names[width]
        + (" of whole nodes" if ladder is WEEK_LADDER and view.endswith("_by_node") else "")
        + (f" up to {longest // HOUR} h" if longest <= DAY else f" up to {longest // DAY} days")
        for view, longest, width in ladder
        if longest
    )
    return f"By {', '.join(shorter)}, else days (UTC) that are over."


def broken_at_gaps(series: str, values: str, source: str) -> str:
    """Rows of one node by `time` and `series` ('': there is one alone), with `values` that are NULL where a line ends.

    That is a step after the last row before a gap, which is more than three steps of `source` without a row.
    """
    keys = f"time, {series}" if series else "time"
    partition = f"PARTITION BY {series} " if series else ""
    nothing = ", ".join(f"NULL AS {name}" for name in values.split(", "))
    return f"""(
WITH found AS (
    SELECT *, lead(time) OVER ({partition}ORDER BY time) - time > 3 * step AS is_last FROM {source}
)
SELECT {keys}, {values} FROM found
UNION ALL
SELECT {keys.replace("time", "time + step", 1)}, {nothing} FROM found WHERE is_last
) AS broken"""


def _branches(ladder: tuple[Rung, ...], columns: str, where: str, *, settled: bool) -> Iterator[str]:
    shortest = None
    for view, longest, width in ladder:
        lasted = f"extract(epoch FROM least(interval '{width} seconds', now() - time))::float8 / 3600 AS hours"
        selected = re.sub(r"\bhours\b", lasted, columns)
        selected = re.sub(r"\bstep\b", f"interval '{width} seconds' AS step", selected)
        if not view.endswith("_by_node"):
            selected = re.sub(r"\b(\w+)_sum\b", r"\1_avg AS \1_sum", selected)
        if view.endswith("_metrics"):
            selected = re.sub(r"\bsamples\b", "1 AS samples", selected)
            selected = re.sub(r"\b(\w+)_(avg|min|max|last)\b", r"\1 AS \1_\2", selected)
        bounds = (f"{RANGE} > {shortest}" if shortest else "", f"{RANGE} <= {longest}" if longest else "")
        ready = {DAY: f"time < {WHOLE_DAYS}", HOUR: f"time < {SETTLED}" if settled else ""}.get(width, "")
        conditions = [*filter(None, bounds), "$__timeFilter(time)", *filter(None, (ready,)), where]
        is_joined = view.endswith("_by_node") and ladder is WEEK_LADDER
        models = f" JOIN ({MODELS}) AS models USING (node_id)" if is_joined else ""
        yield f"SELECT {selected}\nFROM history.{view}{models}\nWHERE " + "\n  AND ".join(conditions)
        shortest = longest


def mean(field: str) -> str:
    """The mean of means, each weighing as much as it has samples."""
    return f"sum({field} * samples) / nullif(sum(samples) FILTER (WHERE {field} IS NOT NULL), 0)"


def _by_key(variables: tuple[str, ...], where: str) -> str:
    everything = " AND ".join(f"'__all__' IN (${{{variable}:sqlstring}})" for variable in variables)
    return f"(({everything}) OR node_key = ANY (ARRAY(SELECT node_key FROM history.nodes WHERE {where})))"


def _of(alias: str) -> str:
    return f"{alias}." if alias else ""


def _chosen(alias: str) -> str:
    of = _of(alias)
    return (
        f"{chosen('org', f'{of}org_id')}\n  AND {chosen('node', f'{of}node_id')}\n"
        f"  AND ('__all__' IN (${{metadata_value:sqlstring}}) OR {of}node_id IN ({BY_METADATA}))"
    )
