"""Where a connection comes from, as it is written down."""

import pytest

from app.addresses import peer_address


@pytest.mark.parametrize(
    ("client", "address"),
    [
        (("203.0.113.10", 4711), "203.0.113.10"),
        (("::ffff:203.0.113.10", 4711), "203.0.113.10"),
        (("2001:DB8:0:0::1", 4711), "2001:db8::1"),
        (("fe80::1%eth0", 4711), "fe80::1"),
        (("/run/aiwm.sock", None), None),
        (("", 0), None),
        (None, None),
    ],
)
def test_an_address_is_written_one_way(client: object, address: str | None) -> None:
    """Fit for the database, whatever the socket calls it; None where there is none."""
    assert peer_address({"client": client}) == address
