"""The short form of `make chaos`: killed, stopped and cut under load, and everything acknowledged is there once."""

from bench.chaos import FAULTS, SHORT, scene, suffer


async def test_what_is_acknowledged_is_stored_once_whatever_dies() -> None:
    """A gateway, the database server, every connection: one after the other."""
    async with scene(nodes=12) as there:
        for name in SHORT:
            found = await suffer(there, FAULTS[name])
            assert found.sent > 0
            assert found.is_well, (name, found)
