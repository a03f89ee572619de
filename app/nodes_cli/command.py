"""`aiwm nodes …`: options in, one or a few requests, a table or JSON out."""

import asyncio
import re
import sys
from collections.abc import Awaitable, Callable
from functools import wraps
from pathlib import Path
from typing import Any, Final

import click
import msgspec
from rich.console import Console
from rich.progress import Progress

from app.errors import StartupError
from app.nodes_cli import importing, scripts, tables
from app.nodes_cli.rows import read_rows
from app.portal import PAGE, Portal

_NODE_ID: Final = re.compile(r"[0-9a-f]{24}")
_WIDE: Final = 200
"""Characters of a table where there is no terminal to fold it for."""
_LIFETIME: Final = click.IntRange(60)


@click.group("nodes")
def nodes_command() -> None:
    """List, show, create and delete nodes, and make their tokens, by the service's REST API.

    NODE is a node's _id, or its name where no other node has it.
    """


def _command(work: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """A command that speaks with a service: --url, --token, and an event loop for its requests."""

    @click.option("--url", envvar="AIWM_PUBLIC_URL", default="http://localhost:3305", help="The service's address.")
    @click.option("--token", envvar="AIWM_TOKEN", help="Portal token; else AIWM_TOKEN, else one signed here.")
    @wraps(work)
    def run(*, url: str, token: str | None, **options: Any) -> None:
        if not token:
            raise StartupError("There is no portal token: give one with --token or in AIWM_TOKEN.")

        async def within() -> None:
            async with Portal(url, token) as portal:
                await work(portal, **options)

        asyncio.run(within())

    return run


_as_json = click.option("--json", "as_json", is_flag=True, help="JSON instead of a table.")
_org = click.option("--org", "org_id", help="Organisation (for admins).")


@nodes_command.command("list")
@click.option("--status", type=click.Choice(["pending", "installing", "online", "offline", "maintenance"]))
@click.option("--role", type=click.Choice(["controller", "worker", "proxy", "storage"]))
@click.option("--search", help="Part of a name or hostname.")
@_org
@click.option("--sort", help="name, createdAt, lastHeartbeat; - in front for descending.")
@click.option("--limit", type=click.IntRange(0), default=100, show_default=True, help="How many; 0 for all.")
@_as_json
@_command
async def list_nodes(portal: Portal, *, limit: int, as_json: bool, org_id: str | None, **only: str | None) -> None:
    """List nodes, newest first."""
    parameters = {name: value for name, value in {**only, "orgId": org_id}.items() if value is not None}
    found: list[dict[str, Any]] = []
    async for node in portal.nodes({**parameters, "limit": min(limit or PAGE, PAGE)}):
        if limit and len(found) == limit:
            click.echo(f"There are more than {limit}: --limit 0 shows all.", err=True)
            break
        found.append(node)
    if as_json:
        _echo_json(found)
    else:
        _console().print(tables.of_nodes(found))


@nodes_command.command()
@click.argument("node")
@_as_json
@_command
async def show(portal: Portal, *, node: str, as_json: bool) -> None:
    """Show all that is known of NODE."""
    _show(await portal.get(f"/nodes/{await _id_of(portal, node)}", dict[str, Any]), as_json=as_json)


@nodes_command.command()
@click.argument("name")
@click.option("--role", multiple=True, default=("worker",), show_default=True, help="May be given several times.")
@click.option("--local", "is_local", is_flag=True, help="It stands on the premises.")
@click.option("--vpn-ip", help="Its address in the VPN.")
@click.option("--metadata", multiple=True, metavar="KEY=VALUE", help="May be given several times.")
@_org
@_as_json
@_command
async def create(
    portal: Portal,
    *,
    name: str,
    role: tuple[str, ...],
    is_local: bool,
    vpn_ip: str | None,
    metadata: tuple[str, ...],
    org_id: str | None,
    as_json: bool,
) -> None:
    """Create a node called NAME."""
    pairs = [pair.partition("=") for pair in metadata]
    if any(not equals for _, equals, _ in pairs):
        raise click.BadParameter("write KEY=VALUE", param_hint="--metadata")
    wanted = {
        "vpnIp": vpn_ip,
        "orgId": org_id,
        "metadata": {key: value for key, _, value in pairs} or None,
    }
    body = {"name": name, "role": role, "isLocal": is_local, **{k: v for k, v in wanted.items() if v is not None}}
    _show(await portal.post("/nodes", dict[str, Any], body), as_json=as_json)


@nodes_command.command()
@click.argument("node")
@click.option("--expires-in", type=_LIFETIME, metavar="SECONDS", help="Without: a year.")
@click.option("--revoke-previous", is_flag=True, help="Refuse older tokens from now on.")
@click.option("--script", type=click.Path(path_type=Path), help="Write the installation script there, mode 0600.")
@_as_json
@_command
async def token(
    portal: Portal, *, node: str, expires_in: int | None, revoke_previous: bool, script: Path | None, as_json: bool
) -> None:
    """Make a token for NODE: print it and nothing else, or write the script that installs it."""
    body = {"revokePrevious": revoke_previous} | ({} if expires_in is None else {"expiresIn": expires_in})
    made = await portal.post(f"/nodes/{await _id_of(portal, node)}/token", dict[str, Any], body)
    if script is not None:
        scripts.write(script, made["installScript"])
    if as_json:
        _echo_json(made)
    elif script is None:
        click.echo(made["token"])


@nodes_command.command("import")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder of the scripts.")
@click.option("--expires-in", type=_LIFETIME, metavar="SECONDS", help="Of their tokens. Without: a year.")
@_org
@_as_json
@_command
async def import_nodes(
    portal: Portal, *, file: Path, out: Path, expires_in: int | None, org_id: str | None, as_json: bool
) -> None:
    """Create the nodes of FILE, and write an installation script for each.

    FILE has one name a line, or is a CSV (name, role, isLocal, vpnIp, metadata.<key>), or JSON lines of what
    POST /nodes takes. Run again, it goes on where it was: a node of that name that is there is not created a
    second time, and a script that is there stays as it is.
    """
    rows = read_rows(importing.from_file(file))
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("Importing", total=len(rows))
        wanted = importing.Import(
            portal, out, org_id=org_id, token_seconds=expires_in, done=lambda: progress.advance(task)
        )
        results = await wanted.run(rows)
    if as_json:
        _echo_json(results)
    for result in results:
        if result.error is not None:
            click.echo(f"{tables.plain(result.name)}: {result.error}", err=True)
    failed = importing.failures(results)
    there = sum(1 for it in results if it.was_there and it.error is None)
    created = len(results) - there - failed
    click.echo(f"{created} nodes created, {there} were there, {failed} failed; the scripts are in {out}.", err=True)
    if failed:
        sys.exit(1)


@nodes_command.command()
@click.argument("nodes", nargs=-1, required=True, metavar="NODE …")
@click.option("--yes", is_flag=True, help="Do not ask.")
@_command
async def delete(portal: Portal, *, nodes: tuple[str, ...], yes: bool) -> None:
    """Delete nodes: their tokens are refused for ever, their history stays."""
    found = [(await _id_of(portal, node), node) for node in nodes]
    if not yes:
        click.confirm(f"Delete {', '.join(str(tables.plain(node)) for _, node in found)}?", abort=True, err=True)
    for node_id, _ in found:
        await portal.delete(f"/nodes/{node_id}")
        click.echo(f"Deleted {node_id}.", err=True)


async def _id_of(portal: Portal, node: str) -> str:
    """The `_id` of a node that was given by it or by its name."""
    if _NODE_ID.fullmatch(node):
        return node
    found = [it["_id"] async for it in portal.nodes({"name": node})] if node else []
    if not found:
        raise StartupError(f"There is no node {node!r}: `aiwm nodes list --search` finds parts of names.")
    if len(found) > 1:
        raise StartupError(f"There are {len(found)} nodes called {node!r}, name one by its _id: {', '.join(found)}.")
    return str(found[0])


def _show(node: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        _echo_json(node)
    else:
        _console().print(*tables.of_node(node), sep="\n")


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=_WIDE)


def _echo_json(value: object) -> None:
    click.echo(msgspec.json.format(msgspec.json.encode(value)).decode())
