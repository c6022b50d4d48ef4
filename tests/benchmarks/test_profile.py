"""The split of a request's time."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks.interpreter_lock import Held
from benchmarks.perf_tool import Hot
from benchmarks.profile import Profiled, main
from benchmarks.thread_times import ThreadTimes

WORKER = ThreadTimes(running=0.5, ready=0.1, kernel_ticks=3, user_ticks=1)
OTHER = ThreadTimes(running=0.1, ready=0.0, kernel_ticks=0, user_ticks=1)


def profiled(hot: Hot, held: Held | None) -> Profiled:
    return Profiled(100_000, 1.0, [WORKER, OTHER], hot, held, {"read": 1.0})


def test_the_parts_of_a_request_are_told_by_perf_where_there_is_one() -> None:
    found = profiled(Hot({"tcp_ack": 0.5}, {"main": 0.5}), Held(1000, 250, True)).times()
    assert found[:7] == pytest.approx((100_000, 10.0, 3.0, 3.0, 1.0, 4.0, 1.5))


def test_the_parts_are_told_by_ticks_without_perf() -> None:
    assert profiled(Hot(), None).times()[2:4] == pytest.approx((3.6, 2.4))


def test_a_share_of_all_time_is_one_of_all_time() -> None:
    assert profiled(Hot(), Held(1000, 250, False)).times()[6] == pytest.approx(2.5)


def test_what_was_not_measured_is_left_empty() -> None:
    assert profiled(Hot(), None).times()[6:] == (None, None)


def test_the_functions_that_take_most_come_first() -> None:
    found = list(profiled(Hot({"a": 0.1, "b": 0.3}, {"c": 0.6}), None).functions())
    assert [row[:2] for row in found] == [("kernel", "b"), ("kernel", "a"), ("user", "c")]
    assert [row[2] for row in found] == pytest.approx([1.8, 0.6, 3.6])


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="the benchmarks read Linux' /proc")
def test_a_server_is_profiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMCACHED", "/none")
    file = tmp_path / "found.json"
    assert main(["--only", "pipe32", "--seconds", "1", "--json", str(file)]) == 0
    sections = json.loads(file.read_text())["sections"]
    rows = sections["µs of a request"]["rows"]
    assert rows
    for row in rows:
        assert row["load"] == "pipe32"
        assert 0 < row["kernel"] + row["user"] <= row["µs each"] * 2
        assert row["lock held"] is not None
