"""The program as it is run: its words, its exit statuses, its signals and its files."""

import contextlib
import os
import pwd
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from memcache_kv.cli import main
from memcache_kv.compiled import FLAVOR
from memcache_kv.config.options import OPTIONS
from memcache_kv.config.settings import Protection, Settings
from memcache_kv.errors import ConfigError
from memcache_kv.server import process
from memcache_kv.version import PROTOCOL_VERSION, VERSION
from tests.certificates import make_certificates
from tests.program import PATIENCE_SECONDS, Program, command, environment, poll_until, run_to_its_end

ROOT = Path(__file__).resolve().parent.parent
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
    assert capsys.readouterr().out.splitlines() == [
        f"memcached {PROTOCOL_VERSION}",
        f"memcache_kv {VERSION} ({FLAVOR})",
    ]


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["--nonsense"], 2),
        (["word"], 2),
        (["-p"], 2),
        (["-o", "foo"], 2),
        (["-p", "70000"], 64),
        (["-I", "1"], 64),
        (["-I", "2000m"], 64),
        (["-m", "abc"], 64),
        (["-B", "http"], 64),
        (["-e", "/nonexistent/directory/memory", "-p", "0"], 71),
        (["-Z"], 64),
        (["-S"], 64),
        (["--config", "/nonexistent/config.toml"], 2),
        (["-P", "/nonexistent/directory/pid", "-p", "0"], 71),
        (["-P", "/dev/null", "-p", "0"], 71),
        (["-p", "0", "-l", "not an address"], 71),
        (["-l", "127.0.0.1:abc"], 71),
        (["-l", "127.0.0.1:99999"], 71),
        (["-l", "[::1"], 71),
        (["-s", "/nonexistent/directory/socket"], 71),
        (["--journal", "/dev/null/journal", "-p", "0"], 1),
        (["-Y", "/nonexistent/users", "-p", "0"], 1),
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


@pytest.mark.parametrize("flag", ["-i", "--license"])
def test_the_licence_is_that_of_the_file(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([flag])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"memcache_kv {VERSION}\n\n{(ROOT / 'LICENSE').read_text()}"


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


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
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


def test_a_second_server_with_the_same_pid_file_is_refused_and_leaves_it(tmp_path: Path) -> None:
    path = tmp_path / "server.pid"
    with Program("-p", "0", "-P", str(path)) as first:
        done = run_to_its_end("-p", "0", "-P", str(path))
        assert done.returncode == 71
        assert done.stderr.splitlines() == [
            f"memcache-kv: the pid file {path} is in use by another server, process {first.process.pid}"
        ]
        assert path.read_text() == f"{first.process.pid}\n"
        assert first.end() == 0
    assert not path.exists()


def ends(pid: int) -> bool:
    """Whether a process is gone."""
    try:
        os.kill(pid, 0)
        stat = Path(f"/proc/{pid}/stat")
        return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def ask_on(path: Path) -> bytes:
    """Ask for the version on a unix socket that is listened on."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PATIENCE_SECONDS)
        connection.connect(str(path))
        connection.sendall(b"version\r\n")
        return connection.recv(100)


def test_a_daemon_goes_on_in_the_background_until_it_is_told_to_end(tmp_path: Path) -> None:
    path, unix = tmp_path / "server.pid", tmp_path / "socket"
    done = run_to_its_end("-d", "-P", str(path), "-s", str(unix))
    assert (done.returncode, done.stdout) == (0, "")
    assert f"listening on {unix}" in done.stderr.splitlines()
    pid = int(path.read_text())
    try:
        assert os.getsid(pid) == pid
        assert [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in (0, 1, 2)] == ["/dev/null"] * 3
        assert ask_on(unix) == SAID_VERSION
    finally:
        os.kill(pid, signal.SIGTERM)
    poll_until(lambda: ends(pid), "the daemon ends")
    assert not path.exists()
    assert not unix.exists()


@pytest.mark.parametrize("to", ["a file", "a pipe with -v"])
def test_a_daemons_log_goes_on_where_standard_error_is_there_for_it(tmp_path: Path, to: str) -> None:
    path, unix, log = tmp_path / "server.pid", tmp_path / "socket", tmp_path / "log"
    arguments = command("-d", "-P", str(path), "-s", str(unix), *(["-v"] if to != "a file" else []))
    reading, writing = os.pipe()
    with open(reading, "rb") as pipe, log.open("wb") as file:
        target = file if to == "a file" else writing
        done = subprocess.run(arguments, env=environment(), stdin=subprocess.DEVNULL, stderr=target, timeout=60)
        os.close(writing)
        assert done.returncode == 0
        pid = int(path.read_text())
        assert ask_on(unix) == SAID_VERSION
        unix.unlink()
        os.kill(pid, signal.SIGHUP)  # without users or certificates, it has nothing to say of that
        os.kill(pid, signal.SIGTERM)
        poll_until(lambda: ends(pid), "the daemon ends")
        said = (log.read_bytes() if to == "a file" else pipe.read()).decode()
    assert f"listening on {unix}" in said
    if to != "a file":
        assert "new auto-negotiating client connection" in said
        assert "Signal handled: SIGTERM." in said


def test_a_daemon_that_cannot_listen_says_why_and_with_which_status(tmp_path: Path) -> None:
    with Program("-p", "0") as first:
        done = run_to_its_end("-d", "-p", str(first.port), "-P", str(tmp_path / "pid"))
    assert done.returncode == 71
    assert done.stderr.splitlines() == [f"memcache-kv: can't listen on 127.0.0.1:{first.port}: Address already in use"]
    assert list(tmp_path.iterdir()) == []


def test_a_daemon_whose_journal_is_damaged_says_why_and_with_which_status(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("nonsense")
    (tmp_path / "base").write_text("nonsense")
    done = run_to_its_end("-d", "-p", "0", "--journal", str(tmp_path))
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("memcache-kv: ")
    assert str(tmp_path) in line


@pytest.mark.parametrize(("whom", "signum"), [("server", signal.SIGKILL), ("starter", signal.SIGTERM)])
def test_a_daemon_that_is_ended_before_it_listens_is_no_success(tmp_path: Path, whom: str, signum: int) -> None:
    users = tmp_path / "users"
    os.mkfifo(users)  # reading it takes until somebody writes: nobody does
    starter = subprocess.Popen(
        command("-d", "-p", "0", "-Y", str(users)), env=environment(), stderr=subprocess.PIPE, text=True
    )
    children = Path(f"/proc/{starter.pid}/task/{starter.pid}/children")
    poll_until(lambda: children.read_text().strip(), "the server is on its way")
    server = int(children.read_text())
    try:
        poll_until(lambda: os.getsid(server) == server, "it has a session of its own")
        if whom == "starter":
            poll_until(lambda: is_caught(starter.pid, signum), "the starter passes signals on")
        os.kill(server if whom == "server" else starter.pid, signum)
        _, said = starter.communicate(timeout=60)
        assert starter.returncode == 128 + signum
        assert said == f"memcache-kv: {signal.Signals(signum).name} ended the server before it was ready\n"
        poll_until(lambda: ends(server), "the server is gone")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(server, signal.SIGKILL)


def is_caught(pid: int, signum: int) -> bool:
    """Whether a process has a handler for a signal."""
    match = re.search(r"^SigCgt:\s*([0-9a-f]+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return match is not None and bool(int(match[1], 16) >> (signum - 1) & 1)


def test_a_taken_port_is_said_in_one_line_with_status_71() -> None:
    with Program("-p", "0") as first:
        done = run_to_its_end("-p", str(first.port))
        assert done.returncode == 71
        assert len(done.stderr.splitlines()) == 1
        assert str(first.port) in done.stderr
        assert first.ask(b"version\r\n") == SAID_VERSION


def test_a_taken_unix_socket_is_said_in_one_line_and_left_to_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with Program("-s", str(path)):
        done = run_to_its_end("-s", str(path))
        assert (done.returncode, len(done.stderr.splitlines())) == (71, 1)
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


def test_v_logs_who_connects() -> None:
    with Program("-p", "0", "-v") as program, socket.create_connection(("127.0.0.1", program.port)) as connection:
        host, port = connection.getsockname()
        program.wait_for(f"new auto-negotiating client connection from tcp:{host}:{port}".encode())


def test_sigusr1_writes_the_journal_before_it_ends(tmp_path: Path) -> None:
    with Program("-p", "0", "--journal", str(tmp_path), "--fsync", "never") as program:
        assert program.ask(b"set a 5 0 3\r\nfoo\r\n") == b"STORED\r\n"
        assert program.end(signal.SIGUSR1) == 0
    with Program("-p", "0", "--journal", str(tmp_path)) as program:
        assert program.ask(b"get a\r\n") == b"VALUE a 5 3\r\n"


STREAMS_AT_THE_IMPORT = """
import os, sys
class Finder:
    def find_spec(self, name, path, target=None):
        if name == "memcache_kv.cli":
            found = [os.readlink(f"/proc/self/fd/{number}") for number in range(3)]
            open(sys.argv[1], "w").write(" ".join(found))
            os._exit(0)
sys.meta_path.insert(0, Finder())
from memcache_kv.__main__ import main
main()
"""


def test_standard_streams_are_open_before_anything_is_imported_that_may_open_files(tmp_path: Path) -> None:
    found = tmp_path / "found"
    words = [sys.executable, "-c", STREAMS_AT_THE_IMPORT, str(found)]
    subprocess.run(["sh", "-c", 'exec "$@" 0<&- 1>&- 2>&-', "sh", *words], env=environment(), timeout=60, check=True)
    assert found.read_text() == "/dev/null /dev/null /dev/null"


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"])
def test_a_server_runs_with_standard_streams_closed(tmp_path: Path, closed: str) -> None:
    unix, journal = tmp_path / "socket", tmp_path / "journal"
    arguments = command("-vv", "-s", str(unix), "--journal", str(journal))
    with subprocess.Popen(["sh", "-c", f'exec "$@" {closed}', "sh", *arguments], env=environment()) as process:
        try:
            poll_until(lambda: unix.exists() or process.poll() is not None, "it listens or ends")
            poll_until(lambda: not connects(unix), "it accepts")
            assert ask_on(unix) == SAID_VERSION
            numbers = [int(number[0]) for number in closed.split()]
            assert [os.readlink(f"/proc/{process.pid}/fd/{fd}") for fd in numbers] == ["/dev/null"] * len(numbers)
            process.terminate()
            assert process.wait(60) == 0
        finally:
            process.kill()


def connects(path: Path) -> int:
    """Try to connect to a unix socket; return the error's number."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path))


def test_a_server_runs_where_nobody_reads_its_log(tmp_path: Path) -> None:
    unix = tmp_path / "socket"
    with broken_pipe() as pipe:
        process = subprocess.Popen(command("-vv", "-s", str(unix)), env=environment(), stderr=pipe, stdout=pipe)
    with process:
        try:
            poll_until(lambda: not connects(unix) or process.poll() is not None, "it accepts or ends")
            for _ in range(300):  # more lines than a stream keeps
                assert ask_on(unix) == SAID_VERSION
            process.terminate()
            assert process.wait(60) == 0
        finally:
            process.kill()


@pytest.mark.parametrize(("arguments", "status"), [(["-p", "70000"], 64), (["-V"], 0), (["-h"], 0), (["-i"], 0)])
@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
def test_a_status_does_not_depend_on_who_reads_what_is_said(arguments: list[str], status: int, unbuffered: str) -> None:
    variables = environment(PYTHONUNBUFFERED=unbuffered)
    with broken_pipe() as pipe:
        done = subprocess.run(command(*arguments), env=variables, stdout=pipe, stderr=pipe, timeout=60)
    assert done.returncode == status


@contextlib.contextmanager
def broken_pipe() -> Iterator[int]:
    """Open the writing end of a pipe that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        yield writing
    finally:
        os.close(writing)


AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


def test_root_is_warned_of() -> None:
    with Program("-p", "0") as program:
        program.end()
        assert (b"warning: running as root" in program.said) is (os.geteuid() == 0)
    with Program("-p", "0", "-u", "root") as program:
        program.end()
        assert b"running as root" not in program.said


@pytest.mark.parametrize("flags", [("-l", "0.0.0.0"), ("-l", "::1", "-l", "0.0.0.0"), ("-l", "*")])
def test_a_start_that_lets_strangers_in_is_warned_of_and_strict_refuses_it(flags: tuple[str, ...]) -> None:
    done = run_to_its_end("-p", "0", "-u", "root", *flags, "--protected", "strict")
    assert done.returncode == 64
    [line] = done.stderr.splitlines()
    assert line.startswith("memcache-kv: --protected strict: not started, as anybody who can reach ")
    assert line.endswith(
        "ask for a login (-Y FILE) or for client certificates (-Z, -l mtls:ADDR), or listen on loopback"
    )
    with Program("-p", "0", "-u", "root", *flags) as program:
        assert b"warning: anybody who can reach " in program.said


def test_strict_lets_a_guarded_server_start(tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path / "certificates")
    users = tmp_path / "users"
    users.write_text("ann:x\n")
    users.chmod(0o600)
    tls = ("-Z", "-o", f"{certificates.suboptions},ssl_ca_cert={certificates.authority}")
    for flags in (
        (),
        ("-s", str(tmp_path / "socket")),
        ("-l", "0.0.0.0", "-Y", str(users)),
        (*tls, "-l", "mtls:0.0.0.0"),
    ):
        with Program("-p", "0", "-u", "root", "--protected", "strict", *flags) as program:
            assert b"anybody" not in program.said
    done = run_to_its_end("-p", "0", "-u", "root", *tls, "-l", "btls:0.0.0.0", "--protected", "strict")
    assert done.returncode == 64


@pytest.mark.parametrize(("user", "uid", "refused"), [(None, 0, True), ("root", 0, False), (None, 1000, False)])
def test_strict_refuses_to_run_as_root_unless_that_is_confirmed(
    monkeypatch: pytest.MonkeyPatch, user: str | None, uid: int, refused: bool
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    process.refuse_root(Settings(user=user))
    strict = Settings(user=user, protected=Protection.STRICT)
    if not refused:
        process.refuse_root(strict)
        return
    with pytest.raises(ConfigError, match="strict: not started as root") as caught:
        process.refuse_root(strict)
    assert caught.value.status == 64


def test_protected_is_warn_or_strict() -> None:
    assert run_to_its_end("--protected", "no").returncode == 2


@AS_ROOT
def test_an_unknown_user_is_said_in_one_line_with_status_67() -> None:
    done = run_to_its_end("-u", "nosuch", "-p", "0")
    assert (done.returncode, done.stderr) == (67, "memcache-kv: can't find the user nosuch to switch to\n")


@AS_ROOT
def test_locked_memory_goes_with_another_user() -> None:
    with Program("-p", "0", "-k", "-u", "nobody") as program:
        assert program.ask(b"version\r\n") == SAID_VERSION
        assert os.stat(f"/proc/{program.process.pid}").st_uid == pwd.getpwnam("nobody").pw_uid
        assert program.end() == 0
        assert b"Traceback" not in program.said


def test_nothing_is_loaded_from_the_directory_it_is_started_in(tmp_path: Path) -> None:
    (tmp_path / "users").write_text("ann:$2b$04$" + "a" * 53 + "\n")
    for name in ("bcrypt", "mmap", "memcache_kv_pwned", "ssl", "hmac"):
        (tmp_path / f"{name}.py").write_text(f"open('{tmp_path}/loaded', 'a').write('{name} ')\n")
    done = subprocess.run(
        command("-Y", "users", "-p", "0", "-l", "127.0.0.1:abc"),
        env=environment(PYTHONPATH=str(ROOT)),
        cwd=tmp_path,
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 71, done.stderr
    assert not (tmp_path / "loaded").exists()


def test_a_kubernetes_service_of_our_name_does_not_stop_it() -> None:
    with Program("-p", "0", MEMCACHE_KV_PORT="tcp://10.0.0.7:11211", MEMCACHE_KV_SERVICE_HOST="10.0.0.7") as program:
        assert program.ask(b"version\r\n") == SAID_VERSION
        assert program.said.count(b"Kubernetes") == 1


def test_vv_logs_requests_and_replies() -> None:
    with Program("-p", "0", "-vv") as program:
        program.ask(b"get a\r\n")
        assert program.end() == 0
        lines = program.said.decode().splitlines()
        (request,) = [line for line in lines if line.endswith(" get a")]
        assert request.startswith("<")
        assert f">{request[1:].split()[0]} END" in lines
