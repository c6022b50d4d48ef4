"""The file of --cluster-file: read at the start, by SIGHUP, and when it has changed."""

import io
import os
import signal
import socket
from pathlib import Path

import pytest

from memcache_kv.commands.discovery import Cluster
from memcache_kv.config.cluster import ClusterNode
from memcache_kv.config.settings import Settings
from memcache_kv.errors import ConfigError
from memcache_kv.observe.log import Log
from memcache_kv.server.discovery import ClusterFile, cluster_of, resolved
from memcache_kv.server.run import ServerRun
from memcache_kv.store.entry import value_of
from tests.program import Program, poll_until, run_to_its_end

AT = 1_700_000_000


class Followed:
    """A cluster file, and what was logged."""

    def __init__(self, path: Path, content: str) -> None:
        self.path = path
        self.stream = io.StringIO()
        self.cluster = Cluster()
        self.write(content)
        self.file = ClusterFile(path, self.cluster, Log(0, self.stream))

    def write(self, content: str, at: int = AT) -> None:
        self.path.write_text(content)
        os.utime(self.path, (at, at))

    @property
    def told(self) -> bytes:
        return value_of(self.cluster.present or b" 0 0\r\n\r\n")


@pytest.fixture
def followed(tmp_path: Path) -> Followed:
    """A file with one node, which was read."""
    made = Followed(tmp_path / "nodes", "127.0.0.1:11211\n")
    made.file.reload()
    return made


def test_the_version_is_the_time_of_the_file(followed: Followed) -> None:
    assert followed.told == b"1700000000\n127.0.0.1|127.0.0.1|11211\n"


def test_a_change_is_read_once_the_file_stays_the_same(followed: Followed) -> None:
    followed.write("127.0.0.1:11211\n127.0.0.2:1121", AT + 5)
    followed.file.look()
    assert followed.told.startswith(b"%d\n" % AT)
    followed.write("127.0.0.1:11211\n127.0.0.2:11212\n", AT + 6)
    followed.file.look()
    assert followed.told.startswith(b"%d\n" % AT)
    followed.file.look()
    assert followed.told == b"1700000006\n127.0.0.1|127.0.0.1|11211 127.0.0.2|127.0.0.2|11212\n"
    followed.file.look()
    assert followed.stream.getvalue().count("cluster version") == 2


def test_a_file_that_is_replaced_has_changed(followed: Followed, tmp_path: Path) -> None:
    """A new file of the same length and time takes the place of the old one."""
    (tmp_path / "new").write_text("127.0.0.2:11211\n")
    os.utime(tmp_path / "new", (AT, AT))
    (tmp_path / "new").replace(followed.path)
    followed.file.look()
    followed.file.look()
    assert followed.told == b"1700000001\n127.0.0.2|127.0.0.2|11211\n"


@pytest.mark.parametrize("content", ["", "127.0.0.1", "127.0.0.1:1 127.0.0.1:1"])
def test_a_file_that_cannot_be_used_changes_nothing_and_is_reported_once(followed: Followed, content: str) -> None:
    before = followed.told
    followed.write(content, AT + 5)
    for _ in range(5):
        followed.file.look()
    assert followed.told == before
    assert followed.stream.getvalue().count("; the cluster's nodes stay as they are\n") == 1
    followed.path.unlink()
    for _ in range(5):
        followed.file.look()
    assert followed.told == before
    assert f"can't read {followed.path}: No such file or directory; the cluster's" in followed.stream.getvalue()


def test_names_get_the_address_that_they_resolve_to(monkeypatch: pytest.MonkeyPatch) -> None:
    def look_up(host: str, port: int, **rest: object) -> list[tuple[object, ...]]:
        if host == "none.example":
            raise socket.gaierror(-2, "Name or service not known")
        six = (socket.AF_INET6, 0, 0, "", ("::7", port, 0, 0))
        return [six, (socket.AF_INET, 0, 0, "", ("10.0.0.7", port))] if host == "both.example" else [six]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    stream = io.StringIO()
    nodes = [("both.example", ""), ("six.example", ""), ("none.example", ""), ("given.example", "10.0.0.9")]
    found = resolved(tuple(ClusterNode(host, ip, 11211) for host, ip in nodes), Log(0, stream))
    assert [node.ip for node in found] == ["10.0.0.7", "::7", "", "10.0.0.9"]
    assert stream.getvalue() == (
        "warning: the cluster's node none.example:11211 has no address for clients that need one: Name or service not "
        "known\n"
    )


def test_the_nodes_of_the_flags_have_the_time_of_the_start_as_version() -> None:
    cluster = cluster_of((ClusterNode("127.0.0.1", "", 11211),), AT, Log(0, io.StringIO()))
    assert cluster.version == AT


def test_a_server_does_not_start_with_a_file_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "nodes").write_text("nonsense\n")
    for name, problem in (("none", "No such file"), ("nodes", "'nonsense' is not a node")):
        server = ServerRun(Settings(port=0, cluster_file=tmp_path / name), log=Log(0, io.StringIO()))
        with pytest.raises(ConfigError, match=problem):
            server.start()
    ended = run_to_its_end("-p", "0", "--cluster-file", str(tmp_path / "nodes"))
    assert (ended.returncode, "is not a node" in ended.stderr) == (2, True)


def test_sighup_reads_the_file_at_once_and_a_change_is_noticed_without_it(tmp_path: Path) -> None:
    path = tmp_path / "nodes"
    path.write_text("5\n127.0.0.1:11211\n")
    with Program("-p", "0", "-l", "127.0.0.1", "--cluster-file", str(path)) as program:
        assert program.ask(b"config get cluster\r\n") == b"CONFIG cluster 0 28\r\n"
        path.write_text("6\n127.0.0.1:11211\n")
        program.process.send_signal(signal.SIGHUP)
        program.wait_for(b"cluster version 6")
        path.write_text("7\n127.0.0.1:11211\n")
        program.wait_for(b"cluster version 7")
        path.write_text("half a line")
        program.process.send_signal(signal.SIGHUP)
        program.wait_for(b"stay in use")
        poll_until(lambda: program.ask(b"config get cluster\r\n") == b"CONFIG cluster 0 28\r\n", "the answer")
