"""How times leave the service."""

from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from app.clock import timestamp

_ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
_MOMENTS = st.builds(
    lambda moment, zone: moment.replace(tzinfo=zone),
    st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29)),  # noqa: DTZ001 – the zone is drawn
    st.just(UTC) | _ZONES,
)


@given(_MOMENTS)
def test_a_moment_leaves_in_utc_cut_to_milliseconds(moment: datetime) -> None:
    """Always with three digits behind the second and a `Z`, wherever it was told."""
    utc = moment.astimezone(UTC).replace(microsecond=moment.microsecond // 1000 * 1000)
    assert timestamp(moment) == f"{utc:%Y-%m-%dT%H:%M:%S}.{utc.microsecond // 1000:03}Z".rjust(24, "0")
    assert datetime.fromisoformat(timestamp(moment)) == utc
