"""`aiwm token`, and the tokens that other commands make for themselves."""

import click

from app.clock import SystemClock
from app.domain.auth import Tokens
from app.model import CallerRole, Owner
from app.settings import Settings, with_secret


@click.command()
@click.option("--sub", "subject", required=True, help="User id: becomes createdBy and updatedBy.")
@click.option("--org", "org_id", help="Organisation id; an admin may go without.")
@click.option("--role", type=click.Choice([role.value for role in CallerRole]), default=CallerRole.VIEWER.value)
@click.option("--expires-in", type=click.IntRange(1), default=3600, show_default=True, help="Seconds.")
@click.pass_obj
def token(settings: Settings, subject: str, org_id: str | None, role: str, expires_in: int) -> None:
    """Print one portal token and nothing else."""
    if org_id is None and role != CallerRole.ADMIN:
        raise click.UsageError("--org is required: only an admin may go without an organisation.")
    if not settings.trust.takes_own:
        click.echo(
            "Warning: the service refuses this token, since AIWM_JWT_JWKS_URL is set: take one of the identity "
            "provider's, or set AIWM_JWT_ALLOW_HS256=true.",
            err=True,
        )
    click.echo(portal_token(settings, subject, CallerRole(role), org_id, expires_in))


def client_token(settings: Settings, subject: str) -> str:
    """For a client on the service's own machine. A client never makes a secret: the service would not know it."""
    if settings.token is not None:
        return settings.token
    return portal_token(with_secret(settings, may_generate=False), subject, CallerRole.OPERATOR, "local", 86_400)


def portal_token(settings: Settings, subject: str, role: CallerRole, org_id: str | None, expires_in: int) -> str:
    """A token of the service's own, good for so many seconds."""
    tokens = Tokens(with_secret(settings).jwt_secret, SystemClock())
    return tokens.issue_portal(subject, role, Owner(org_id=org_id), expires_in)
