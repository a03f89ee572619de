"""What a query string asks of a node's history, and how much may be asked at once."""

import pytest

from app.domain.ladder import Kept, Reach
from app.domain.plans import Plan
from app.domain.questions import GPU_HISTORY, HEARTBEAT_HISTORY, NODE_HISTORY, Question, Subject, parse_question
from app.domain.ranges import Interval
from app.errors import InvalidRequest
from app.retention import Retention
from app.storage.history import Device, KnownNode
from tests.fakes import START


def ask(subject: Subject, **parameters: str) -> Question:
    """The question of these parameters; `start` and `end` stand for from and to."""
    names = {"start": "from", "end": "to"}
    return parse_question(subject, [(names.get(name, name), text) for name, text in parameters.items()], START)


def measures(question: Question) -> list[tuple[str, str, str]]:
    """Table, field and aggregate of each series."""
    return [
        (part.source.name, measure.field.name, measure.aggregate.value)
        for part in question.parts
        for measure in part.measures
    ]


def refusal(subject: Subject, *pairs: tuple[str, str], **parameters: str) -> dict[str, str]:
    """The details of the refusal, by field."""
    with pytest.raises(InvalidRequest) as refused:
        parse_question(subject, [*pairs, *parameters.items()], START)
    return {problem.field: problem.message for problem in refused.value.details}


def test_defaults_are_every_field_on_average() -> None:
    """Text has no average: its default is the last."""
    assert measures(ask(HEARTBEAT_HISTORY)) == [
        ("heartbeats", "status", "last"),
        ("heartbeats", "cpuUsage", "avg"),
        ("heartbeats", "ramUsage", "avg"),
        ("heartbeats", "activeDeployments", "avg"),
        ("heartbeats", "uptimeSeconds", "avg"),
        ("gpu_heartbeats", "utilization", "avg"),
        ("gpu_heartbeats", "temperature", "avg"),
    ]
    assert len(measures(ask(NODE_HISTORY))) == 13
    assert len(measures(ask(GPU_HISTORY))) == 6


def test_fields_and_aggregates_in_the_order_asked_for() -> None:
    """Each once; a table that nothing is asked of is not read."""
    asked = ask(HEARTBEAT_HISTORY, fields="ramUsage, cpuUsage,ramUsage", agg="max,avg,max")
    assert measures(asked) == [
        ("heartbeats", "ramUsage", "max"),
        ("heartbeats", "ramUsage", "avg"),
        ("heartbeats", "cpuUsage", "max"),
        ("heartbeats", "cpuUsage", "avg"),
    ]
    assert measures(ask(HEARTBEAT_HISTORY, fields="temperature")) == [("gpu_heartbeats", "temperature", "avg")]


def test_aggregates_that_do_not_fit_text() -> None:
    """Of a status that is named they are refused; without `fields` it is left out, or has those that fit."""
    assert refusal(HEARTBEAT_HISTORY, fields="cpuUsage,status", agg="avg,sum,last") == {
        "agg": "avg, sum does not fit status, which is text: last and count do"
    }
    assert "status" not in {field for _, field, _ in measures(ask(HEARTBEAT_HISTORY, agg="avg"))}
    assert measures(ask(HEARTBEAT_HISTORY, agg="avg,count"))[0] == ("heartbeats", "status", "count")


def test_rates_are_of_counters() -> None:
    """Of another field that is named they are refused; without `fields` counters alone have them."""
    assert refusal(NODE_HISTORY, fields="cpuUsage", agg="rate") == {
        "agg": "rate does not fit cpuUsage, which is no counter: rate and increase are of counters"
    }
    assert measures(ask(NODE_HISTORY, agg="rate")) == [
        ("node_metrics", "networkBytesIn", "rate"),
        ("node_metrics", "networkBytesOut", "rate"),
    ]
    assert refusal(GPU_HISTORY, agg="rate,increase") == {"agg": "rate, increase fits no field here"}


def test_zones_and_fills_by_their_names() -> None:
    """Wrong ones are named, and samples have nothing to fill."""
    details = refusal(NODE_HISTORY, tz="../etc/passwd", fill="zero")
    assert details == {
        "tz": "is not a time zone: give a name such as Asia/Ho_Chi_Minh or UTC",
        "fill": "must be one of none, null, locf, linear",
    }
    assert "interval=raw" in refusal(NODE_HISTORY, interval="raw", fill="null")["fill"]


def test_every_wrong_parameter_is_named() -> None:
    """One refusal for all of them, with the right words."""
    details = refusal(NODE_HISTORY, **{"from": "x", "to": "y", "interval": "2m", "fields": "cpu,", "agg": "p51"})
    assert list(details) == ["from", "to", "interval", "fields", "agg"]
    assert details["fields"].startswith("there is no 'cpu', '' here: there are cpuUsage, cpuCores, cpuTemperature")
    assert (
        details["agg"]
        == "there is no 'p51' here: there are avg, min, max, sum, count, last, p50, p95, p99, rate, increase"
    )


@pytest.mark.parametrize("name", ["zone", "deviceId", "From"])
def test_parameters_that_are_not_there_are_refused(name: str) -> None:
    """Better than an answer that ignores what was asked; devices have nodes' metrics not."""
    assert "is not a parameter here: there are from, to, interval" in refusal(NODE_HISTORY, **{name: "UTC"})[name]


def test_parameter_given_twice_is_refused() -> None:
    """Which of the two would count?"""
    assert "more than once" in refusal(NODE_HISTORY, ("fields", "cpuUsage"), ("fields", "diskUsed"))["fields"]


def planned(question: Question, gpus: int = 0, kept: Kept | None = None) -> Plan:
    """What serves a question about a node of so many GPUs."""
    devices = {number: Device(f"GPU-{number}") for number in range(1, gpus + 1)}
    rolled = {str(rollup.table.name): START for part in question.parts for rollup in part.source.rollups}
    reach = Reach(kept or {}, rolled, START)
    made = Plan.of(question, KnownNode(1, "a" * 24, "gpu-01", None, devices), reach)
    made.check(question.time_range)
    return made


@pytest.mark.parametrize(
    ("start", "interval"),
    [("now-1h", "1m"), ("now-16h", "1m"), ("now-17h", "5m"), ("now-3d", "5m"), ("now-10d", "15m"), ("now-900d", "1d")],
)
def test_auto_keeps_a_series_under_a_thousand_points(start: str, interval: str) -> None:
    """The finest that does; where none does, the coarsest."""
    assert planned(ask(NODE_HISTORY, start=start)).buckets.interval == interval
    assert planned(ask(NODE_HISTORY, start="now-1500d")).buckets.interval is Interval.DAY


@pytest.mark.parametrize(("agg", "interval"), [("avg", "5m"), ("avg,p95", "1h"), ("rate", "5m")])
def test_auto_picks_what_is_kept(agg: str, interval: str) -> None:
    """Where samples are gone there are 5 minutes; of percentiles, which those cannot tell, there are hours."""
    question = ask(NODE_HISTORY, start="now-40d", end="now-39d", agg=agg)
    plan = planned(question, kept=Retention().by_table)
    assert plan.buckets.interval == interval
    assert plan.parts[0].source == f"node_metrics_{interval}"


def test_auto_heeds_the_limit_in_all() -> None:
    """Many devices with many aggregates: 4,608 series of 999 points would be too many."""
    asked = ask(GPU_HISTORY, start="now-16h", agg="avg,min,max,sum,count,last")
    assert planned(asked, gpus=1).buckets.interval == "1m"
    assert planned(asked, gpus=128).buckets.interval == "5m"


def test_too_many_points_are_refused_with_the_interval_that_would_do() -> None:
    """By series and in all; 10,000 and 1,000,000 themselves are allowed."""
    planned(ask(NODE_HISTORY, start="now-10000m", interval="1m"))
    with pytest.raises(InvalidRequest, match=r"10,000 .* each of 13 .*10,001.* interval=5m would do \(2,001\)"):
        planned(ask(NODE_HISTORY, start="now-10001m", interval="1m"))
    every = {"agg": "avg,min", "interval": "1m"}
    planned(ask(GPU_HISTORY, start="now-5208m", **every), gpus=16)
    with pytest.raises(InvalidRequest, match="interval=5m would do"):
        planned(ask(GPU_HISTORY, start="now-5209m", **every), gpus=16)
    with pytest.raises(InvalidRequest, match="no interval would do"):
        planned(ask(NODE_HISTORY, start="0"))
