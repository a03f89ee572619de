"""What analysts and dashboards ask is planned for what it is: short, and of every GPU.

Each row of a GPU has its device. Where that was an inner join, the planner took it for a filter that lets one row of
twenty-five through, and looked up the node of each of the rest by itself; and it was made even for those who ask for
neither device nor model. A left join it does not guess at, and leaves out where nothing is asked of it.

Workers and compiled code take longer to start than such a question runs, and workers take processors that ingest needs.
"""

import re

from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

VIEWS = ("gpu_heartbeats", "gpu_details", *(f"gpu_metrics{width}" for width in ("", "_5m", "_1h", "_1d")))
SETTINGS = {"jit": "off", "max_parallel_workers_per_gather": "0"}
MADE = "    INSERT INTO aiwm.analysts "
"""What comes next where `make_analyst` has set up the login."""
EACH_LOGIN = """
    DO $$
    DECLARE
        found name;
    BEGIN
        FOR found IN SELECT rolname FROM pg_roles JOIN aiwm.analysts ON login = rolname LOOP
            {statements}
        END LOOP;
    EXCEPTION WHEN insufficient_privilege THEN
        RAISE WARNING 'This user may not alter the logins of analysts: `aiwm db analyst` does, for each of them.';
    END $$
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for view in VIEWS:
        _join(view, "LEFT JOIN")
    settings = _each("SET {} = {}", "login")
    _execute(_make_analyst().replace(MADE, f"{settings}{MADE}"))
    _execute(EACH_LOGIN.format(statements=_each("SET {} = {}", "found")))


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for view in VIEWS:
        _join(view, "JOIN")
    _execute(_make_analyst().replace(_each("SET {} = {}", "login"), ""))
    _execute(EACH_LOGIN.format(statements=_each("RESET {}", "found")))


def _join(view: str, how: str) -> None:
    """The same view, its columns, comments and grants kept, with its GPUs joined so."""
    query = re.sub(
        r"(LEFT )?JOIN ((\w+\.)?gpus g USING)", rf"{how} \2", _value(f"pg_get_viewdef('history.{view}'::regclass)")
    )
    _execute(f"CREATE OR REPLACE VIEW history.{view} WITH (security_barrier) AS {query}")


def _make_analyst() -> str:
    """The statement that makes the function as it is."""
    return _value("pg_get_functiondef('aiwm.make_analyst'::regproc)")


def _each(change: str, login: str) -> str:
    """Lines that change each of the settings of a role whose name a variable has."""
    changes = (change.format(*setting) for setting in SETTINGS.items())
    return "".join(f"    EXECUTE format('ALTER ROLE %I {statement}', {login});\n" for statement in changes)


def _value(expression: str) -> str:
    return str(op.get_bind().exec_driver_sql(f"SELECT {expression}").scalar_one())


def _execute(statement: str) -> None:
    """As it stands: a colon in it begins no parameter."""
    op.get_bind().exec_driver_sql(statement)
