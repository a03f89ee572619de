"""What a process counts of itself, added up over processes and written for Prometheus."""

import re

from hypothesis import given
from hypothesis import strategies as st

from app import meters
from app.meters import ACK_SECONDS, BUFFER_AGE, FRAMES, METERS, Histogram, Meters
from app.rest.own_metrics import exposition

LINE = re.compile(r'(\w+)\{((?:\w+="[^"\\]*",?)*)\} (\S+)')


def test_a_histogram_counts_what_lies_below_each_bound() -> None:
    """Bounds are inclusive, as Prometheus has them."""
    histogram = Histogram(ACK_SECONDS, (0.1, 1))
    for value in (0.05, 0.1, 0.5, 7):
        histogram.observe(value)
    assert histogram.values() == {
        'aiwm_acknowledgement_seconds_bucket{le="0.1"}': 2,
        'aiwm_acknowledgement_seconds_bucket{le="1"}': 3,
        'aiwm_acknowledgement_seconds_bucket{le="+Inf"}': 4,
        "aiwm_acknowledgement_seconds_sum{}": 7.65,
        "aiwm_acknowledgement_seconds_count{}": 4,
    }


def test_processes_are_added_up_and_of_ages_the_greatest_counts() -> None:
    """As if they were one."""
    first = {FRAMES.key(type="heartbeat"): 3.0, BUFFER_AGE.key(): 1.5}
    second = {FRAMES.key(type="heartbeat"): 4.0, FRAMES.key(type="metrics"): 1.0, BUFFER_AGE.key(): 0.5}
    assert meters.added_up([first, second]) == {
        FRAMES.key(type="heartbeat"): 7,
        FRAMES.key(type="metrics"): 1,
        BUFFER_AGE.key(): 1.5,
    }


@given(st.dictionaries(st.text(max_size=20), st.floats(allow_nan=False)))
def test_numbers_come_to_another_process_as_they_are(values: dict[str, float]) -> None:
    """Key by key."""
    assert meters.decode(meters.encode(values)) == values


def test_prometheus_can_read_every_line() -> None:
    """A head for each metric, once, and a number on each line; names with their units."""
    counted = Meters()
    counted.counts[FRAMES.key(type="heartbeat")] += 3
    counted.ack_seconds.observe(0.2)
    counted.gauges.append(lambda: {BUFFER_AGE.key(): 0.25})
    lines = "".join(exposition(counted.read())).splitlines()
    heads = [line for line in lines if line.startswith("#")]
    assert len(heads) == len(set(heads))
    for line in lines:
        if not line.startswith("#"):
            found = LINE.fullmatch(line)
            assert found is not None, line
            float(found[3])
    assert 'aiwm_frames_received_total{type="heartbeat"} 3' in lines
    assert "aiwm_buffer_age_seconds{} 0.25" in lines
    for meter in METERS:
        assert meter.name.endswith("_total") == (meter.type == "counter")
