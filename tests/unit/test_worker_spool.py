"""What is not acknowledged stays, whatever happens to the process or to the disk."""

import logging
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.worker import spool as module
from app.worker.spool import Sample, Spool

MIB = 2**20
METRICS = "TELEMETRY_METRICS"


OpenSpool = Callable[..., Spool]


@pytest.fixture
def open_spool(tmp_path: Path) -> Iterator[OpenSpool]:
    """Open the test's spool, any number of times; whatever is still open at the end is closed."""
    opened: list[Spool] = []

    def open_it(max_bytes: int = MIB, path: Path = tmp_path / "spool.sqlite") -> Spool:
        opened.append(Spool(path, max_bytes))
        return opened[-1]

    yield open_it
    for spool in opened:
        spool.close()


def everything(spool: Spool) -> list[Sample]:
    """All that is kept, newest first."""
    return spool.before(10**15, 10**6)


def moments(spool: Spool) -> list[int]:
    """The times of all that is kept, newest first."""
    return [sample.moment for sample in everything(spool)]


def crash(spool: Spool) -> None:
    """Lose the process: the file is as the operating system has it."""
    connection = spool._connection
    assert connection is not None
    spool._connection = None
    connection.close()


def fill(spool: Spool) -> None:
    """Let the disk be full: SQLite's own limit of the file's size raises its own error."""
    assert spool._connection is not None
    (pages,) = spool._connection.execute("PRAGMA page_count").fetchone()
    spool._connection.execute(f"PRAGMA max_page_count = {pages}")


def make_room(spool: Spool) -> None:
    """Let the disk have room again."""
    assert spool._connection is not None
    spool._connection.execute("PRAGMA max_page_count = 1000000")


def test_a_sample_is_kept_until_it_is_forgotten(open_spool: OpenSpool, tmp_path: Path) -> None:
    """It keeps its messageId, its time and its text, over restarts."""
    spool = open_spool()
    spool.put(METRICS, 1000, '{"a":"ö"}')
    (before,) = everything(spool)
    crash(spool)
    spool = open_spool()
    (after,) = everything(spool)
    assert after == before
    assert (after.kind, after.moment, after.data, after.size) == (METRICS, 1000, '{"a":"ö"}', 10)
    assert (spool.count, spool.size) == (1, 10)
    spool.forget(after.message_id)
    spool.forget("never heard of")
    assert (everything(spool), spool.count, spool.size) == ([], 0, 0)


def test_newest_first_and_live_ones_after_a_number(open_spool: OpenSpool, tmp_path: Path) -> None:
    """`before` walks back from a number, `after` forth."""
    spool = open_spool()
    for moment in (10, 20, 30, 40):
        spool.put(METRICS, moment, "{}")
    assert [it.moment for it in spool.before(spool.newest + 1, 2)] == [40, 30]
    assert [it.moment for it in spool.before(30, 9)] == [20, 10]
    after = spool.after(20)
    assert after is not None
    assert after.moment == 30
    assert spool.after(spool.newest) is None


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["put", "forget", "crash", "close", "full", "room"]), st.integers(0, 30))))
def test_it_is_a_queue_whatever_happens(tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]) -> None:
    """Through kills, restarts and a full disk it holds what was put and not forgotten, in order; a kill while
    the disk is full takes what is in memory alone.
    """
    path = tmp_path_factory.mktemp("spool") / "spool.sqlite"
    spool, wanted, moment = Spool(path, MIB), list[int](), 0
    for step, number in steps:
        if step == "put":
            moment += 1
            spool.put(METRICS, moment, "x" * 3000)
            wanted.append(moment)
        elif step == "forget" and wanted:
            gone = wanted.pop(number % len(wanted))
            (sample,) = [it for it in everything(spool) if it.moment == gone]
            spool.forget(sample.message_id)
        elif step == "crash" and not spool._memory and not spool._to_forget:
            crash(spool)
            spool = Spool(path, MIB)
        elif step == "close":
            make_room(spool)
            spool.close()
            spool = Spool(path, MIB)
        elif step == "full":
            fill(spool)
        elif step == "room":
            make_room(spool)
        assert moments(spool) == wanted[::-1]
        assert spool.count - len(spool._to_forget) == len(wanted)
    spool.close()


def test_past_its_bound_the_oldest_go_and_it_says_so(
    open_spool: OpenSpool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Bytes of data are bounded; the log names the time up to which samples are gone, once."""
    spool = open_spool(10_000)
    for moment in range(1, 16):
        spool.put(METRICS, moment, "x" * 1000)
    assert moments(spool) == list(range(15, 5, -1))
    assert spool.size == 10_000
    dropped = [record.getMessage() for record in caplog.records]
    assert len(dropped) == 1
    assert "1970-01-01T00:00:00.001Z are dropped (1 so far)" in dropped[0]


def test_a_full_disk_falls_back_to_memory_and_says_so_once(
    open_spool: OpenSpool, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory is bounded too; when the disk has room again everything goes there."""
    monkeypatch.setattr(module, "MEMORY_SAMPLES", 5)
    caplog.set_level(logging.INFO)
    spool = open_spool()
    spool.put(METRICS, 1, "x" * 8000)
    fill(spool)
    for moment in range(2, 9):
        spool.put(METRICS, moment, "x" * 8000)
    assert moments(spool) == [8, 7, 6, 5, 4, 1]
    said = [record.getMessage() for record in caplog.records]
    assert sum("database or disk is full" in line for line in said) == 1
    assert sum("dropped" in line for line in said) == 1
    make_room(spool)
    spool.put(METRICS, 9, "{}")
    assert caplog.records[-1].getMessage().endswith("takes samples again.")
    crash(spool)
    assert moments(open_spool()) == [9, 8, 7, 6, 5, 4, 1]


def test_what_is_acknowledged_on_a_full_disk_is_not_sent_again(open_spool: OpenSpool, tmp_path: Path) -> None:
    """It is gone from what is read at once, and from the disk as soon as that takes it."""
    spool = open_spool()
    spool.put(METRICS, 1, "{}")
    (sample,) = everything(spool)
    assert spool._connection is not None
    spool._connection.execute("PRAGMA query_only = ON")
    spool.forget(sample.message_id)
    assert everything(spool) == []
    spool._connection.execute("PRAGMA query_only = OFF")
    spool.forget("another")
    assert spool.count == 0


@pytest.mark.parametrize("where", ["the whole file", "the middle"])
def test_a_damaged_file_is_set_aside_with_a_sentence(
    open_spool: OpenSpool, tmp_path: Path, caplog: pytest.LogCaptureFixture, where: str
) -> None:
    """Nothing crashes; the old file is kept for whoever wants to look at it, and a new one takes samples."""
    path = tmp_path / "spool.sqlite"
    spool = open_spool(100 * MIB)
    for moment in range(50):
        spool.put(METRICS, moment, "x" * 3000)
    spool.close()
    content = bytearray(path.read_bytes())
    content[0 if where == "the whole file" else 8192 :] = b"garbage" * 9000
    path.write_bytes(content)
    spool = open_spool(100 * MIB)
    everything(spool)
    spool.put(METRICS, 99, "{}")
    assert 99 in moments(spool)
    assert (tmp_path / "spool.damaged").exists()
    assert any("is set aside as" in record.getMessage() for record in caplog.records)


def test_a_file_of_another_version_is_set_aside(open_spool: OpenSpool, tmp_path: Path) -> None:
    """It is not guessed at."""
    path = tmp_path / "spool.sqlite"
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA user_version = 99")
    other.close()
    spool = open_spool()
    spool.put(METRICS, 1, "{}")
    assert moments(spool) == [1]
    assert (tmp_path / "spool.damaged").exists()


def test_a_file_that_another_daemon_holds_is_waited_for(
    open_spool: OpenSpool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Memory until then; what both recorded is kept in order."""
    first = open_spool()
    first.put(METRICS, 1, "{}")
    second = open_spool()
    second.put(METRICS, 2, "{}")
    assert "no other daemon of this node runs" in caplog.text
    first.put(METRICS, 3, "{}")
    first.close()
    assert moments(second) == [2, 3, 1]
    second.put(METRICS, 4, "{}")
    assert moments(second) == [4, 2, 3, 1]
    assert second.count == 4


def test_a_folder_that_cannot_be_made_is_no_crash(
    open_spool: OpenSpool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A file stands where the folder should be: memory it is."""
    (tmp_path / "state").write_text("")
    spool = open_spool(path=tmp_path / "state" / "spool.sqlite")
    spool.put(METRICS, 1, "{}")
    assert moments(spool) == [1]
    assert "cannot be used" in caplog.text
    spool.close()
    assert "lost with this process: 1" in caplog.text
