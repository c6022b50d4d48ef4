"""Files of a journal that are deleted or replaced while it is served."""

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.scene import MANIFEST, THREE_FILES, Scene, scene
from tests.integration.wire import poll_until

pytestmark = pytest.mark.long

NAMES = [MANIFEST, *THREE_FILES]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[bytes, bytes]]:
    """A journal of a base and two increments, and what is in it."""
    with scene(tmp_path_factory.mktemp("made") / "journal") as served:
        served.make_three_files()
    return served.journal, served.acknowledged


@pytest.fixture
def served(tmp_path: Path, made: tuple[Path, dict[bytes, bytes]]) -> Iterator[Scene]:
    """A server on a copy of it."""
    shutil.copytree(made[0], tmp_path / "journal")
    served = Scene(tmp_path / "journal", "always", made[1])
    yield served
    served.close()


def replace(path: Path) -> None:
    """Put a copy in a file's place: what is appended to the open one is nobody's."""
    copy = path.with_name("copy")
    shutil.copy2(path, copy)
    copy.rename(path)


def expect_mended(served: Scene) -> None:
    """It notices, says so, writes everything anew by itself, and a restart finds all of that."""
    served.until_failing()
    poll_until(lambda: not served.is_failing(), "it is written again")
    poll_until(lambda: "\nrewrote the journal: " in served.server.log(), "that is told of")
    assert re.search(r"was (deleted|replaced).*; writes are rejected", served.server.log())
    served.put_some()
    served.kill_and_restart()
    assert "cut off" not in served.server.start_log()


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_is_deleted_is_noticed_told_of_and_made_anew(served: Scene, name: str) -> None:
    (served.journal / name).unlink()
    expect_mended(served)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_is_replaced_is_noticed_told_of_and_made_anew(served: Scene, name: str) -> None:
    replace(served.journal / name)
    expect_mended(served)


def test_all_files_but_the_lock_that_are_deleted_at_once_are_made_anew(served: Scene) -> None:
    for name in NAMES:
        (served.journal / name).unlink()
    expect_mended(served)


@pytest.mark.parametrize("spoil", [Path.unlink, replace], ids=["deleted", "replaced"])
def test_a_lock_that_is_not_its_own_any_more_leaves_reads_alone(served: Scene, spoil: Callable[[Path], None]) -> None:
    spoil(served.journal / "lock")
    served.until_failing()
    served.put_until_refused()
    served.expect_refusing(f"{served.journal / 'lock'} was deleted or replaced")
    assert served.is_failing()
    served.server.kill()
    served.close()
    served.restart()


def test_a_directory_that_is_deleted_is_noticed_and_reads_go_on(served: Scene) -> None:
    shutil.rmtree(served.journal)
    served.until_failing()
    served.put_until_refused()
    served.expect_refusing(f"{served.journal / 'lock'} was deleted or replaced")
    assert not served.journal.exists()
    assert served.server.stop() == 1
    assert "lock was deleted or replaced; " in served.server.log()
    served.server.kill()


def test_a_directory_that_is_moved_away_is_whole_where_it_is(served: Scene, tmp_path: Path) -> None:
    away = tmp_path / "away"
    served.journal.rename(away)
    served.until_failing()
    served.put_until_refused()
    away.rename(served.journal)
    served.until_written_again()
    served.kill_and_restart()
