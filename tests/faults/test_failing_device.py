"""A block device that fails with an I/O error: refused, told of, and taken up again; nothing acknowledged is lost."""

from pathlib import Path

import pytest

from memcache_kv.journal.tools.cli import FAILED
from tests.faults.failing_device import failing_device
from tests.faults.scene import MANIFEST, refused_start, scene
from tests.program import run_to_its_end

pytestmark = pytest.mark.long

BROKEN = "Input/output error"


@pytest.mark.parametrize("fsync", ["always", "everysec"])
def test_what_a_failing_device_may_have_lost_is_written_again_and_is_there_when_it_is_mounted_anew(
    tmp_path: Path, fsync: str
) -> None:
    """The write of a page fails long after the program's write: fsync reports it once, and drops the page."""
    with failing_device(tmp_path / "device") as device:
        with device.mounted() as disk, scene(disk / "journal", fsync) as served:
            served.put_some()
            served.until_on_disk()
            device.fail("write")
            served.put_until_refused()
            served.expect_refusing(f"can't write the journal in {disk / 'journal'}: {BROKEN}")
            device.fail()
            served.until_written_again()
            served.until_on_disk()
            served.server.kill()
            served.close()
        with device.mounted():
            served.restart()
            served.put_some()
            served.kill()


def test_a_start_on_a_device_that_can_not_be_read_is_refused_and_leaves_all_as_it_was(tmp_path: Path) -> None:
    with failing_device(tmp_path / "device") as device:
        with device.mounted() as disk, scene(disk / "journal") as served:
            served.put_some()
            served.kill()
        with device.mounted():
            journal = disk / "journal"
            names = sorted(path.name for path in journal.iterdir() if path.stat())
            manifest = (journal / MANIFEST).read_bytes()
            device.fail("read")
            assert refused_start(journal) == f"memcache-kv: can't read the journal in {journal}: {BROKEN}\n"
            verified = run_to_its_end("journal", "verify", str(journal))
            assert (verified.returncode, BROKEN in verified.stderr) == (FAILED, True)
            device.fail()
            assert sorted(path.name for path in journal.iterdir()) == names
            assert (journal / MANIFEST).read_bytes() == manifest
            served.restart()
            served.put_some()
            served.kill()
