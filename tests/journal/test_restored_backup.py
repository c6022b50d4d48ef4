"""An older copy of a journal that is put over a newer one: the server starts with neither unless it is told which."""

import json
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from memcache_kv.journal.tools.cli import main as journal_main
from tests.journal.journals import names_in
from tests.program import Program, poll_until, run_to_its_end


class Server(Program):
    """A server with this journal, and one client."""

    def __init__(self, journal: Path, *arguments: str) -> None:
        super().__init__("-p", "0", "-l", "127.0.0.1", "--journal", str(journal), "--fsync", "always", *arguments)
        self.client = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        self.replies = self.client.makefile("rb")

    def tell(self, line: bytes) -> bytes:
        """Send a line and return the first line of the reply."""
        self.client.sendall(line + b"\r\n")
        return self.replies.readline().rstrip()

    def set(self, *keys: bytes) -> None:
        for key in keys:
            assert self.tell(b"set %b 0 0 1\r\n1" % key) == b"STORED"

    def statistic(self, name: bytes) -> bytes:
        self.client.sendall(b"stats\r\n")
        found = b""
        while (line := self.replies.readline()) != b"END\r\n":
            if line.startswith(b"STAT %b " % name):
                found = line.split()[2]
        return found

    def rewrite(self) -> None:
        done = int(self.statistic(b"memcache_kv_journal_compactions"))
        assert self.tell(b"journal compact") == b"OK"
        poll_until(lambda: int(self.statistic(b"memcache_kv_journal_compactions")) > done, "the rewrite")

    def stop(self, signal_number: int = signal.SIGTERM) -> None:
        self.replies.close()
        self.client.close()
        self.process.send_signal(signal_number)
        self.process.wait()


def copy(old: Path, new: Path) -> None:
    """Copy a directory's content over another one's, as one does that has a backup."""
    new.mkdir(exist_ok=True)
    subprocess.run(["cp", "-a", f"{old}/.", str(new)], check=True)
    (new / "lock").unlink(missing_ok=True)


def keys_of(journal: Path, *arguments: str) -> str:
    """Start a server, and return the keys that it has of a, b and c."""
    with Server(journal, *arguments) as server:
        server.client.sendall(b"get a b c\r\n")
        found = []
        while (line := server.replies.readline()) != b"END\r\n":
            if line.startswith(b"VALUE "):
                found.append(line.split()[1].decode())
        server.stop()
    return " ".join(found)


@pytest.fixture(params=["stopped", "serving"])
def journals(tmp_path: Path, request: pytest.FixtureRequest) -> tuple[Path, Path]:
    """A journal with an older copy of itself put over it, and a copy of how it was before that."""
    journal, backup, newer = tmp_path / "journal", tmp_path / "backup", tmp_path / "newer"
    with Server(journal) as server:
        server.set(b"a")
        if request.param == "serving":
            copy(journal, backup)
            server.set(b"b")
            server.rewrite()
            server.set(b"c")
        server.stop(signal.SIGKILL if request.param == "serving" else signal.SIGTERM)
    if request.param == "stopped":
        copy(journal, backup)
        with Server(journal) as server:
            server.set(b"b")
            server.rewrite()
            server.set(b"c")
            server.stop()
    copy(journal, newer)
    copy(backup, journal)
    return journal, newer


NEWER = ("base-000002.jsonl", "increment-000002.jsonl")


def test_the_server_does_not_start_and_says_why_and_what_to_do(journals: tuple[Path, Path]) -> None:
    journal, _ = journals
    before = {name: (journal / name).read_bytes() for name in names_in(journal)}
    ended = run_to_its_end("-p", "0", "--journal", str(journal))
    assert ended.returncode == 1
    [line] = ended.stderr.splitlines()
    assert f"{journal}/manifest.json is older than {', '.join(NEWER)}: " in line
    assert "To start with the copy, move the newer files to another directory" in line
    assert "to go on with the newer journal, put its own manifest back" in line
    assert {name: (journal / name).read_bytes() for name in names_in(journal)} == before
    assert journal_main(["verify", str(journal)]) == 1


def test_it_starts_with_the_copy_once_the_newer_files_are_elsewhere(journals: tuple[Path, Path]) -> None:
    journal, _ = journals
    elsewhere = journal.with_name("elsewhere")
    elsewhere.mkdir()
    for name in NEWER:
        (journal / name).rename(elsewhere / name)
    assert keys_of(journal) == "a"
    assert not [name for name in names_in(journal) if "unlisted" in name]


def test_it_goes_on_with_the_newer_journal_once_its_manifest_is_back(journals: tuple[Path, Path]) -> None:
    journal, newer = journals
    (journal / "manifest.json").write_bytes((newer / "manifest.json").read_bytes())
    assert keys_of(journal) == "a b c"
    copy(newer, journal)
    assert journal_main(["verify", str(journal)]) == 0


def test_repair_makes_a_manifest_of_the_newer_files(journals: tuple[Path, Path]) -> None:
    journal, _ = journals
    assert journal_main(["repair", str(journal), "--yes"]) == 0
    assert keys_of(journal) == "a b c"


@pytest.mark.parametrize("keep", ["0", "1", "2"])
def test_a_copy_of_the_same_time_is_no_older_one(tmp_path: Path, keep: str) -> None:
    journal, backup = tmp_path / "journal", tmp_path / "backup"
    for key in (b"a", b"b", b"c"):
        with Server(journal, "--keep", keep) as server:
            server.set(key)
            server.rewrite()
            server.stop()
    copy(journal, backup)
    copy(backup, journal)
    assert keys_of(journal) == "a b c"
    assert keys_of(backup) == "a b c"


def test_what_is_killed_after_a_rewrite_starts_with_all_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    journal = tmp_path / "journal"
    for key in (b"a", b"b", b"c"):
        with Server(journal, "--keep", "2") as server:
            server.rewrite()
            server.set(key)
            assert server.statistic(b"memcache_kv_journal_kept_generations") == {b"a": b"1"}.get(key, b"2")
            server.stop(signal.SIGKILL)
    assert keys_of(journal) == "a b c"
    capsys.readouterr()
    assert journal_main(["stats", "--json", str(journal)]) == 0
    kept = json.loads(capsys.readouterr().out)["kept"]
    assert len(kept) == 2
    assert sum(generation["bytes"] for generation in kept) > 0
