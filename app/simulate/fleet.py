"""The fleet's nodes and their tokens, made by REST as a portal makes them."""

from collections.abc import Callable

import msgspec

from app.portal import Portal, for_each


class Credentials(msgspec.Struct, frozen=True):
    """What a worker needs to connect: its node's `_id` and token."""

    node_id: str
    token: str


class _Node(msgspec.Struct):
    id: str = msgspec.field(name="_id")


class _Token(msgspec.Struct):
    token: str


async def create_fleet(
    portal: Portal, run: str, count: int, token_seconds: int, created: Callable[[], None]
) -> list[Credentials]:
    """Create nodes and a token for each, a few at a time; `created` is called for each.

    Raises StartupError with what the service, or the network, said. Nodes made until then stay.
    """
    fleet: dict[int, Credentials] = {}

    async def create(number: int) -> None:
        body = {
            "name": f"simulated-{run}-{number:05}",
            "role": ["worker"],
            "isLocal": False,
            "metadata": {"simulation": run},
        }
        node = await portal.post("/nodes", _Node, body)
        made = await portal.post(f"/nodes/{node.id}/token", _Token, {"expiresIn": token_seconds})
        fleet[number] = Credentials(node.id, made.token)
        created()

    await for_each(range(count), create)
    return [fleet[number] for number in sorted(fleet)]
