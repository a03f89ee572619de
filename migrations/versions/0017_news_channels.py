"""Channels of news between gateways that nobody can guess: whoever may log in may LISTEN and NOTIFY.

A login of an analyst heard on `aiwm_gateway_1` which nodes of other organisations were revoked, deleted or taken over, and
could make that gateway look at any.
"""

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("ALTER TABLE installation ADD COLUMN news_secret uuid NOT NULL DEFAULT gen_random_uuid()")
    op.execute("""
        CREATE FUNCTION gateway_channel(gateway_id integer) RETURNS text LANGUAGE sql STABLE STRICT AS $$
            SELECT 'aiwm_' || left(encode(sha256(convert_to(news_secret || '/' || gateway_id, 'UTF8')), 'hex'), 32)
            FROM aiwm.installation
        $$
    """)
    op.execute("REVOKE ALL ON FUNCTION gateway_channel(integer) FROM PUBLIC")


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("DROP FUNCTION gateway_channel(integer)")
    op.execute("ALTER TABLE installation DROP COLUMN news_secret")
