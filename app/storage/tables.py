"""The tables as SQLAlchemy sees them; Alembic compares the database with this.

Everything stands in the private schema `aiwm`, which each connection has first on its search path;
analysts read the views of schema `history` instead. Only migrations create anything.
"""

from typing import Any, Final

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    false,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import INET, JSONB

from app.quantities import (
    BYTES,
    BYTES_PER_SECOND,
    CELSIUS,
    COUNT,
    ERRORS,
    FAN,
    GIGABYTE,
    GPU_DETAIL_FIELDS,
    GPU_HEARTBEAT_FIELDS,
    GPU_METRIC_FIELDS,
    HEARTBEAT_FIELDS,
    JOULE,
    MEGAHERTZ,
    NODE_METRIC_FIELDS,
    PERCENT,
    SECONDS,
    VRAM,
    WATT,
    Field,
    Quantity,
)

PRIVATE_SCHEMA: Final = "aiwm"
SEARCH_PATH: Final = f"{PRIVATE_SCHEMA}, public"

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "fk": "%(table_name)s_%(column_0_name)s_fkey",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
    }
)

TYPES: Final[dict[Quantity | None, type[Any]]] = {
    None: Text,
    PERCENT: SmallInteger,
    CELSIUS: SmallInteger,
    WATT: Integer,
    VRAM: Integer,
    COUNT: Integer,
    GIGABYTE: BigInteger,
    BYTES: BigInteger,
    MEGAHERTZ: SmallInteger,
    FAN: SmallInteger,
    BYTES_PER_SECOND: BigInteger,
    JOULE: BigInteger,
    ERRORS: BigInteger,
    SECONDS: BigInteger,
}
"""Of what type a column is that holds steps of a quantity; text has none."""


def _moment(name: str, *, nullable: bool = True) -> Column[Any]:
    return Column(name, DateTime(timezone=True), nullable=nullable)


def _sample_table(name: str, fields: tuple[Field, ...], *, per_gpu: bool = False, by_time: bool = False) -> Table:
    """A raw table: one row a sample (and GPU), values in steps of their quantity's resolution.

    `by_time`: whether it is read for whole fleets, of which the key does not find the last minutes.
    """
    gpu = [Column("gpu", SmallInteger, primary_key=True, autoincrement=False)] if per_gpu else []
    return Table(
        name,
        metadata,
        Column("node_key", Integer, primary_key=True, autoincrement=False),
        *gpu,
        Column("time", DateTime(timezone=True), primary_key=True),
        *(Column(field.column, TYPES[field.quantity]) for field in fields),
        *([Index(f"{name}_time_idx", "time", postgresql_using="brin")] if by_time else []),
    )


nodes = Table(
    "nodes",
    metadata,
    Column("node_key", Integer, Identity(always=True), primary_key=True),
    Column("id", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("role", ARRAY(Text), nullable=False),
    Column("is_local", Boolean, nullable=False),
    Column("vpn_ip", Text),
    Column("metadata", JSONB(none_as_null=True)),
    # Hardware, as the last registration told it; memory and disk in GB.
    Column("hostname", Text),
    Column("os", Text),
    Column("cpu_cores", Integer),
    Column("cpu_model", Text),
    Column("ram_total", Double),
    Column("disk_total", Double),
    Column("ip_address", Text),
    Column("public_ip_address", Text),
    Column("daemon_version", Text),
    Column("container_runtime", Text),
    _moment("registered_at"),
    # Tokens: one of an older generation is revoked; a disabled node has none that is taken.
    Column("disabled", Boolean, nullable=False, server_default=false()),
    Column("token_generation", Integer, nullable=False, server_default=text("0")),
    _moment("token_generated_at"),
    _moment("token_expires_at"),
    Column("org_id", Text),
    Column("group_id", Text),
    Column("agent_id", Text),
    Column("app_id", Text),
    Column("created_by", Text, nullable=False),
    Column("updated_by", Text),
    _moment("created_at", nullable=False),
    _moment("updated_at", nullable=False),
    _moment("deleted_at"),
    UniqueConstraint("id"),
    Index("nodes_created_at_id_idx", "created_at", "id", postgresql_where=text("deleted_at IS NULL")),
    Index("nodes_org_id_created_at_id_idx", "org_id", "created_at", "id", postgresql_where=text("deleted_at IS NULL")),
    Index("nodes_name_id_idx", "name", "id", postgresql_where=text("deleted_at IS NULL")),
    Index("nodes_org_id_node_key_idx", "org_id", "node_key"),
)

node_counts = Table(
    "node_counts",
    metadata,
    # Of each org, how many nodes it has that are not deleted: triggers on `nodes` keep it.
    Column("org_id", Text),
    Column("nodes", BigInteger, nullable=False),
    UniqueConstraint("org_id", postgresql_nulls_not_distinct=True),
)

gateways = Table(
    "gateways",
    metadata,
    Column("gateway_id", Integer, Identity(always=True), primary_key=True),
    # Where it listens: whoever can bind that place is its only gateway, its predecessor is gone.
    Column("seat", Text, nullable=False),
    _moment("started_at", nullable=False),
    _moment("seen_at", nullable=False),
    # The end of the last time in which it could not read its nodes, or store what they said.
    _moment("hearing_since"),
    UniqueConstraint("seat"),
)

node_state = Table(
    "node_state",
    metadata,
    # Rewritten by every flush: narrow, no index but the key, room in the page for HOT updates.
    Column("node_key", Integer, ForeignKey("nodes.node_key", ondelete="CASCADE"), primary_key=True),
    Column("status", Text, nullable=False),
    Column("status_reason", Text),
    _moment("status_changed_at", nullable=False),
    # A person, where one set it. A trigger writes each move into `status_periods` and `node_events`.
    Column("status_changed_by", Text),
    # Who holds the connection; NULL where nobody does. A takeover raises the epoch.
    Column("gateway_id", Integer),
    Column("epoch", Integer, nullable=False, server_default=text("0")),
    # By the server's clock.
    _moment("alive_at"),
    _moment("last_heartbeat", nullable=False),
    _moment("last_seen_at"),
    _moment("last_metrics_at"),
    _moment("token_last_used"),
    _moment("updated_at", nullable=False),
    # By the worker's clock: sample times of the values below, so that a late sample replaces no newer one.
    _moment("heartbeat_time"),
    _moment("metrics_time"),
    _moment("gpu_time"),
    # In steps, as in the samples.
    Column("cpu_usage", SmallInteger),
    Column("ram_usage", SmallInteger),
    Column("uptime_seconds", BigInteger),
    Column("ram_free", BigInteger),
    # Indexed by gpus.gpu.
    Column("gpu_utilization", ARRAY(SmallInteger)),
    Column("gpu_temperature", ARRAY(SmallInteger)),
    Column("gpu_memory_free", ARRAY(Integer)),
    Column("gpu_power_usage", ARRAY(Integer)),
    Column("clock_skew_ms", BigInteger),
    postgresql_with={"fillfactor": "50"},
)

gpus = Table(
    "gpus",
    metadata,
    # A device that comes back with another model is another row: samples keep the model of their time.
    Column("node_key", Integer, ForeignKey("nodes.node_key", ondelete="CASCADE"), primary_key=True),
    Column("gpu", SmallInteger, primary_key=True, autoincrement=False),
    Column("device_id", Text, nullable=False),
    Column("model", Text),
    Column("memory_total", Integer),
    _moment("first_seen", nullable=False),
    _moment("last_seen", nullable=False),
    _moment("removed_at"),
    UniqueConstraint("node_key", "device_id", "model", postgresql_nulls_not_distinct=True),
)

status_periods = Table(
    "status_periods",
    metadata,
    Column("node_key", Integer, ForeignKey("nodes.node_key", ondelete="CASCADE"), nullable=False),
    # Parts periods that started in the same millisecond.
    Column("period_id", BigInteger, Identity(always=True), nullable=False),
    Column("status", Text, nullable=False),
    _moment("started_at", nullable=False),
    _moment("ended_at"),
    Column("reason", Text),
    Column("actor", Text),
    PrimaryKeyConstraint("node_key", "started_at", "period_id"),
    # One at a time; a node without any was deleted.
    Index("status_periods_present_idx", "node_key", unique=True, postgresql_where=text("ended_at IS NULL")),
)

node_events = Table(
    "node_events",
    metadata,
    Column("node_key", Integer, ForeignKey("nodes.node_key", ondelete="CASCADE"), nullable=False),
    Column("event_id", BigInteger, Identity(always=True), nullable=False),
    _moment("time", nullable=False),
    Column("kind", Text, nullable=False),
    # The subject of a portal token; NULL for what workers and the service itself do.
    Column("actor", Text),
    Column("detail", JSONB(none_as_null=True)),
    # Of what a worker told: the same for the same event, so that sending it again stores it once.
    Column("told", Uuid),
    # From where the actor did it: `storage.events.acts_from` says so to the transaction.
    Column(
        "address", INET, server_default=text("(NULLIF(current_setting('aiwm.address'::text, true), ''::text))::inet")
    ),
    PrimaryKeyConstraint("node_key", "time", "event_id"),
    Index("node_events_told_idx", "node_key", "told", unique=True, postgresql_where=text("told IS NOT NULL")),
)

heartbeats = _sample_table("heartbeats", HEARTBEAT_FIELDS)
gpu_heartbeats = _sample_table("gpu_heartbeats", GPU_HEARTBEAT_FIELDS, per_gpu=True)
node_metrics = _sample_table("node_metrics", NODE_METRIC_FIELDS, by_time=True)
gpu_metrics = _sample_table("gpu_metrics", GPU_METRIC_FIELDS, per_gpu=True, by_time=True)
gpu_details = _sample_table("gpu_details", GPU_DETAIL_FIELDS, per_gpu=True)

ingest_minutes = Table(
    "ingest_minutes",
    metadata,
    # What was stored in each minute, by the server's clock; a row a database session, so that no two wait for another.
    Column("minute", DateTime(timezone=True), primary_key=True),
    Column("writer", Integer, primary_key=True, autoincrement=False),
    Column("frames", BigInteger, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("late_frames", BigInteger, nullable=False),
    Column("duplicates", BigInteger, nullable=False),
    # From a sample's time to its arrival: of all frames together, and the longest.
    Column("delay_ms", BigInteger, nullable=False),
    Column("longest_delay_ms", BigInteger, nullable=False),
    postgresql_with={"fillfactor": "50"},
)

analysts = Table(
    "analysts",
    metadata,
    # Which logins of analysts see what: one organisation, or all where it is NULL.
    Column("login", Text, primary_key=True),
    Column("org_id", Text),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)
login_events = Table(
    "login_events",
    metadata,
    # What triggers on `analysts` tell; append-only.
    Column("event_id", BigInteger, Identity(always=True), primary_key=True),
    Column("time", DateTime(timezone=True), nullable=False, server_default=text("date_trunc('milliseconds', now())")),
    Column("login", Text, nullable=False),
    Column("org_id", Text),
    Column("kind", Text, nullable=False),
    Column("actor", Text, nullable=False, server_default=text("session_user")),
    Column("address", INET, server_default=text("inet_client_addr()")),
)
jobs = Table(
    "jobs",
    metadata,
    # What one process does at a time, and the backend of whoever is at it: a lock that no login of an analyst can take.
    Column("job", Text, primary_key=True),
    Column("pid", Integer),
    Column("backend_start", DateTime(timezone=True)),
    # By the clock of whoever did it; of jobs that are done by anyone, and not too often.
    _moment("done_at"),
)
installation = Table(
    "installation",
    metadata,
    # One row: the storage engine that the first migration found, and that this schema needs from then on.
    Column("engine", Text, primary_key=True),
    # Of TimescaleDB: community, or apache, which has neither continuous aggregates nor a columnstore.
    Column("edition", Text),
    # What the names of channels are made of on which gateways hear of each other.
    Column("news_secret", Uuid, nullable=False, server_default=func.gen_random_uuid()),
)

dropped = Table(
    "dropped",
    metadata,
    # Up to when rows of a table were dropped, or may have been.
    Column("table_name", Text, primary_key=True),
    _moment("before", nullable=False),
)

allowances = Table(
    # When a caller's allowance of what it creates will be whole again.
    "allowances",
    metadata,
    Column("org_id", Text, primary_key=True),
    Column("subject", Text, primary_key=True),
    Column("kind", Text, primary_key=True),
    _moment("whole_at", nullable=False),
)
