"""What can be chosen above a dashboard: many values or All, which is never spelt out."""

from typing import Final

from grafana_foundation_sdk.builders.dashboard import QueryVariable, TextBoxVariable
from grafana_foundation_sdk.models.dashboard import VariableOption, VariableRefresh, VariableSort

from dashboards.build.query import DATA_SOURCE
from dashboards.build.sql import chosen

ALL: Final = "'__all__'"
"""Put into the SQL as it stands."""

LIVE: Final = "deleted_at IS NULL"


def _query(name: str, label: str, sql: str, description: str) -> QueryVariable:
    return (
        QueryVariable(name)
        .label(label)
        .description(description)
        .datasource(DATA_SOURCE)
        .query(" ".join(sql.split()))
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.DISABLED)
    )


def _many(variable: QueryVariable) -> QueryVariable:
    everything = VariableOption(selected=True, text=["All"], value=["$__all"])
    return variable.multi(True).include_all(True).all_value(ALL).current(everything)


def org() -> QueryVariable:
    """The organisations that own nodes."""
    sql = f"SELECT DISTINCT org_id FROM history.nodes WHERE {LIVE} AND org_id IS NOT NULL ORDER BY org_id LIMIT 1000"
    return _many(_query("org", "Org", sql, "Who owns the nodes"))


def model() -> QueryVariable:
    """The models of GPUs."""
    sql = "SELECT DISTINCT gpu_model FROM history.gpus WHERE gpu_model IS NOT NULL ORDER BY gpu_model LIMIT 1000"
    return _many(_query("model", "GPU model", sql, "GPUs of these models, and the nodes that have one"))


def _nodes() -> QueryVariable:
    sql = f"""
        SELECT node_name AS __text, node_id AS __value FROM history.nodes
        WHERE {LIVE} AND {chosen("org", "org_id")} ORDER BY node_name, node_id LIMIT 10000
    """
    return _query("node", "Node", sql, "By name; links carry the _id")


def nodes() -> QueryVariable:
    """Many nodes."""
    return _many(_nodes())


def node() -> QueryVariable:
    """One node."""
    return _nodes().multi(False).include_all(False)


def device() -> QueryVariable:
    """The GPUs of the chosen node."""
    sql = """
        SELECT device_id FROM history.gpus WHERE node_id IN (${node:sqlstring}) AND removed_at IS NULL
        ORDER BY device_id LIMIT 1000
    """
    return _many(_query("device", "GPU", sql, "The GPUs of this node, by their own ids"))


def metadata() -> tuple[QueryVariable, QueryVariable]:
    """A key of the nodes' metadata, and its values."""
    keys = f"""
        SELECT DISTINCT noted.key FROM history.nodes CROSS JOIN LATERAL jsonb_each_text(metadata) AS noted (key, value)
        WHERE {LIVE} ORDER BY noted.key LIMIT 1000
    """
    values = f"""
        SELECT DISTINCT noted.value
        FROM history.nodes CROSS JOIN LATERAL jsonb_each_text(metadata) AS noted (key, value)
        WHERE {LIVE} AND {chosen("metadata_key", "noted.key")} AND noted.value IS NOT NULL
        ORDER BY noted.value LIMIT 1000
    """
    return (
        _many(_query("metadata_key", "Metadata", keys, "A key that the nodes' owners noted")),
        _many(_query("metadata_value", "is", values, "Nodes with this value under it")),
    )


def text(name: str, label: str, value: str, description: str) -> TextBoxVariable:
    """Something to be typed in."""
    return (
        TextBoxVariable(name)
        .label(label)
        .description(description)
        .default_value(value)
        .current(VariableOption(selected=True, text=value, value=value))
    )


def price_of_kwh() -> TextBoxVariable:
    """What energy costs."""
    return text("price_kwh", "Price of a kWh", "0.15", "In your currency")


def price_of_gpu_hour() -> TextBoxVariable:
    """What a GPU earns."""
    return text("price_gpu_hour", "Price of a GPU-hour", "2.00", "In your currency")


def timezone() -> TextBoxVariable:
    """Where hours of the day are counted."""
    return text("timezone", "Time zone", "UTC", "As PostgreSQL knows it, such as Asia/Ho_Chi_Minh")
