"""The program as it is run: its words, its exit statuses, its signals and its files."""

import os
import signal
import socket
from pathlib import Path

import pytest

from memcache_kv.cli import main
from memcache_kv.config.settings import OPTIONS
from memcache_kv.version import PROTOCOL_VERSION, VERSION
from tests.program import Program, poll_until, run_to_its_end

SAID_VERSION = b"VERSION " + PROTOCOL_VERSION.encode() + b"\r\n"


# Without a server


def test_the_help_begins_with_memcacheds_name_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["-h"])
    said = capsys.readouterr()
    assert ended.value.code == 0
    assert said.out.splitlines()[0] == f"memcached {PROTOCOL_VERSION}" == "memcached 1.6.45"
    assert said.err == ""


def test_the_help_names_every_flag(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    said = capsys.readouterr().out
    assert [option.name for option in OPTIONS if f"--{option.name}" not in said] == []
    assert [option.short for option in OPTIONS if f"-{option.short}" not in said] == []
    assert "--config" in said


@pytest.mark.parametrize("name", ["slab-growth-factor", "slab-min-size"])
def test_the_help_says_that_a_flag_sets_the_size_classes(name: str) -> None:
    [text] = [option.help for option in OPTIONS if option.name == name]
    assert "size classes" in text
    assert "no effect" not in text


@pytest.mark.parametrize("flag", ["-V", "--version"])
def test_the_version_is_memcacheds_and_ours(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([flag])
    assert ended.value.code == 0
    assert capsys.readouterr().out.splitlines() == [f"memcached {PROTOCOL_VERSION}", f"memcache_kv {VERSION}"]


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["--nonsense"], 2),
        (["-p", "70000"], 64),
        (["-I", "1"], 64),
        (["-I", "2000m"], 64),
        (["-m", "abc"], 2),
        (["--config", "/nonexistent/config.toml"], 2),
        (["-P", "/nonexistent/directory/pid", "-p", "0"], 2),
        (["-p", "0", "-l", "not an address"], 1),
        (["-l", "127.0.0.1:99999"], 1),
        (["-l", "[::1"], 1),
        (["-s", "/nonexistent/directory/socket"], 1),
        (["--journal", "/dev/null/journal", "-p", "0"], 1),
    ],
)
def test_what_cannot_be_is_said_in_one_line(arguments: list[str], status: int) -> None:
    done = run_to_its_end(*arguments)
    assert done.returncode == status
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("memcache-kv: ")


def test_a_bad_variable_is_said_in_one_line() -> None:
    done = run_to_its_end(MEMCACHE_KV_PORT="x")
    assert (done.returncode, len(done.stderr.splitlines())) == (64, 1)
    done = run_to_its_end(MEMCACHE_KV_NONSENSE="x")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)


# A server


def test_it_picks_a_free_port_says_it_and_listens_on_both_loopbacks() -> None:
    with Program("-p0") as program:
        port = program.port
        assert port > 0
        assert f"127.0.0.1:{port}" in program.listening
        assert program.ask(b"version\r\n") == SAID_VERSION
        if f"[::1]:{port}" in program.listening:
            assert program.ask(b"version\r\n", "::1") == SAID_VERSION
        else:
            with socket.socket(socket.AF_INET6) as probe, pytest.raises(OSError):
                probe.bind(("::1", 0))


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_status_0(signum: int) -> None:
    with Program("-p", "0", "-v") as program:
        assert program.end(signum) == 0
        assert f"Signal handled: {signal.Signals(signum).name}." in program.said.decode().splitlines()
        assert b"Traceback" not in program.said


def test_the_shutdown_command_ends_it_with_status_0() -> None:
    with Program("-p", "0", "-A") as program:
        program.ask(b"shutdown\r\n")
        assert program.process.wait(60) == 0


def test_the_pid_file_is_there_while_it_runs(tmp_path: Path) -> None:
    path = tmp_path / "server.pid"
    with Program("-p", "0", "-P", str(path)) as program:
        assert path.read_text() == f"{program.process.pid}\n"
        assert program.end() == 0
        assert not path.exists()


def ends(pid: int) -> bool:
    """Whether a process is gone."""
    try:
        os.kill(pid, 0)
        stat = Path(f"/proc/{pid}/stat")
        return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_a_daemon_goes_on_in_the_background_until_it_is_told_to_end(tmp_path: Path) -> None:
    path, unix = tmp_path / "server.pid", tmp_path / "socket"
    done = run_to_its_end("-d", "-P", str(path), "-s", str(unix))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    poll_until(lambda: path.exists() and path.read_text().endswith("\n"), "the pid file is written")
    pid = int(path.read_text())
    try:
        poll_until(unix.exists, "it listens")
        assert os.getsid(pid) != os.getsid(0)
        with socket.socket(socket.AF_UNIX) as connection:
            poll_until(lambda: connection.connect_ex(str(unix)) == 0, "it accepts")
            connection.sendall(b"version\r\n")
            assert connection.recv(100) == SAID_VERSION
    finally:
        os.kill(pid, signal.SIGTERM)
    poll_until(lambda: ends(pid), "the daemon ends")
    assert not path.exists()
    assert not unix.exists()


def test_a_taken_port_is_said_in_one_line_with_status_1() -> None:
    with Program("-p", "0") as first:
        done = run_to_its_end("-p", str(first.port))
        assert done.returncode == 1
        assert len(done.stderr.splitlines()) == 1
        assert str(first.port) in done.stderr
        assert first.ask(b"version\r\n") == SAID_VERSION


def test_a_taken_unix_socket_is_said_in_one_line_and_left_to_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with Program("-s", str(path)):
        done = run_to_its_end("-s", str(path))
        assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
        assert path.exists()
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(path))
            connection.sendall(b"version\r\n")
            assert connection.recv(100) == SAID_VERSION


def test_a_second_server_on_the_same_journal_says_so_in_one_line_with_status_1(tmp_path: Path) -> None:
    with Program("-p", "0", "--journal", str(tmp_path)) as first:
        done = run_to_its_end("-p", "0", "--journal", str(tmp_path))
        assert done.returncode == 1
        assert len(done.stderr.splitlines()) == 1
        assert str(tmp_path) in done.stderr
        assert first.ask(b"set a 0 0 1\r\nx\r\n") == b"STORED\r\n"


def test_what_a_journal_holds_is_there_again(tmp_path: Path) -> None:
    with Program("-p", "0", "--journal", str(tmp_path)) as program:
        assert program.ask(b"set a 5 0 3\r\nfoo\r\n") == b"STORED\r\n"
        assert program.end() == 0
    with Program("-p", "0", "--journal", str(tmp_path)) as program:
        assert program.ask(b"get a\r\n") == b"VALUE a 5 3\r\n"
        assert program.end() == 0


def test_flags_variables_and_file_reach_the_server(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text("port = 0\nenable-shutdown = true\nmemory-limit = 100\n")
    with Program("--config", str(config), "-m200", MEMCACHE_KV_LISTEN="127.0.0.1") as program:
        assert program.listening == [f"127.0.0.1:{program.port}"]
        with socket.create_connection(("127.0.0.1", program.port), timeout=60) as connection:
            connection.sendall(b"stats settings\r\nshutdown\r\n")
            told = connection.makefile("rb").read()
        assert b"STAT maxbytes %d\r\n" % (200 << 20) in told
        assert b"STAT shutdown_command yes\r\n" in told
        assert program.process.wait(60) == 0


def test_vv_logs_requests_and_replies() -> None:
    with Program("-p", "0", "-vv") as program:
        program.ask(b"get a\r\n")
        assert program.end() == 0
        lines = program.said.decode().splitlines()
        (request,) = [line for line in lines if line.endswith(" get a")]
        assert request.startswith("<")
        assert f">{request[1:].split()[0]} END" in lines
