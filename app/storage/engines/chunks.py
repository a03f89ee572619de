"""Where TimescaleDB keeps the rows of our hypertables and continuous aggregates, by its catalog."""

from collections.abc import Mapping
from typing import Final

from app.storage.engines.base import Connection
from app.storage.holdings import Part, by_table

HELD: Final = """
    held AS (
        SELECT hypertable_name AS name, format('%I.%I', hypertable_schema, hypertable_name)::regclass AS hypertable
        FROM timescaledb_information.hypertables WHERE hypertable_schema = 'aiwm'
        UNION ALL
        SELECT view_name, format('%I.%I', materialization_hypertable_schema, materialization_hypertable_name)::regclass
        FROM timescaledb_information.continuous_aggregates WHERE view_schema = 'aiwm'
    )
"""
"""Each table with the hypertable that its rows lie in."""

# A chunk's own relation is its rows; its bytes are those and what the columnstore has of it.
_CHUNKS: Final = f"""
    WITH {HELD}, sizes AS MATERIALIZED (
        SELECT name, chunk_schema, chunk_name, total_bytes
        FROM held CROSS JOIN LATERAL chunks_detailed_size(hypertable)
    )
    SELECT name, relation, is_compressed AS in_columns, coalesce(total_bytes, 0) AS bytes,
           coalesce(pg_total_relation_size(to_regclass(relation)), 0) AS row_bytes
    FROM sizes JOIN timescaledb_information.chunks USING (chunk_schema, chunk_name)
    CROSS JOIN LATERAL format('%I.%I', chunk_schema, chunk_name) AS relation
    ORDER BY range_start
"""


async def chunks(connection: Connection) -> Mapping[str, list[Part]]:
    """The chunks of each table, oldest first."""
    return by_table(await connection.fetch(_CHUNKS))
