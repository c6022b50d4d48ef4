"""The run of all benchmarks: what it keeps, and how it draws."""

import json
import re
from itertools import pairwise
from pathlib import Path

import pytest

from benchmarks import all as all_parts
from benchmarks.charts import Bars
from benchmarks.durability_report import Column, Section
from benchmarks.parts import Effort, Findings
from benchmarks.recorded_traces import INTERRUPTED
from benchmarks.rounds import Tell

CHARACTER_WIDTH = 6.5


def finds(effort: Effort, tell: Tell) -> Findings:
    return Findings([Section("found", (Column("items"),), [(effort.items,)])])


def is_interrupted(effort: Effort, tell: Tell) -> Findings:
    raise KeyboardInterrupt


def test_ctrl_c_keeps_what_was_measured_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, part in (("loads", finds), ("memory", is_interrupted), ("start", finds)):
        monkeypatch.setitem(all_parts.PARTS, name, part)
    assert all_parts.main(["--only", "loads,memory,start", "--output", str(tmp_path)]) == INTERRUPTED
    assert list(json.loads((tmp_path / "benchmarks.json").read_text())["parts"]) == ["loads"]


def test_the_names_of_a_legend_do_not_overlap() -> None:
    names = ["memcache_kv", "memcached -t 1", "LRU", "S3-FIFO", "W-TinyLFU", "optimum"]
    drawn = Bars("title", "up", ["group"], {name: [1.0] for name in names}).svg()
    starts = [float(re.search(rf'<text x="([\d.]+)"[^>]*>{re.escape(name)}<', drawn)[1]) for name in names]  # type: ignore[index]
    for (start, name), (following, _) in pairwise(zip(starts, names, strict=True)):
        assert start + CHARACTER_WIDTH * len(name) < following - 18
