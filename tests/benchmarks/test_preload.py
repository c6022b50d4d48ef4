"""The measurement of data files."""

from pathlib import Path

import pytest

from benchmarks.preload import main, rows
from memcache_kv.datafile.lines import read_batches


def test_every_row_is_an_item_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "rows").write_bytes(b"".join(rows(20_001)))
    with (tmp_path / "rows").open("rb") as file:
        batches = list(read_batches(file))
    keys = [key for batch in batches for key in batch.keys]
    assert {len(key) for key in keys} == {36}
    assert {len(value) for batch in batches for value in batch.values} == {35}
    assert len(set(keys)) == len(keys) == 20_001


@pytest.mark.long
def test_each_way_to_start_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--rows", "1000"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line[:12].strip() for line in said] == ["empty", "plain", "gzip", "new journal", "its restart"]
    assert all(line.endswith(" MB") for line in said)
