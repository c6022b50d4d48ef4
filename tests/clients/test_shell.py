"""The shell with piped input and on a terminal."""

import contextlib
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from clients.address import Address
from clients.local_server import LocalServer, default_command
from tests.certificates import Certificates, make_certificates
from tests.clients.programs import ROOT, run_program
from tests.ports import free_port
from tests.program import Program

TERMINAL_TIMEOUT_SECONDS = 15.0


def in_shell(server: LocalServer, mode: str, typed: str) -> list[str]:
    """Run the shell with piped lines; return the lines it shows."""
    done = run_program("shell.py", mode, str(server.address), typed=typed.encode())
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_tcp_mode_stores_the_next_line_and_shows_raw_replies(server: LocalServer) -> None:
    shown = in_shell(server, "tcp", "set k 7 0 5\nhello\nget k\ndelete k\nget k\nbogus\n")
    assert shown == ["STORED", "VALUE k 7 5", "hello", "END", "DELETED", "END", "ERROR"]


def test_tcp_mode_takes_data_of_several_lines_and_data_that_looks_like_an_end(server: LocalServer) -> None:
    shown = in_shell(server, "tcp", "set k 0 0 8\nEND\nEND\nget k\nversion\n")
    assert shown[:5] == ["STORED", "VALUE k 0 8", "END", "END", "END"]
    assert shown[5].startswith("VERSION ")


def test_tcp_mode_takes_empty_data(server: LocalServer) -> None:
    assert in_shell(server, "tcp", "set k 0 0 0\n\nget k\n") == ["STORED", "VALUE k 0 0", "", "END"]


def test_tcp_mode_knows_the_end_of_meta_replies_also_of_quiet_ones(server: LocalServer) -> None:
    shown = in_shell(server, "tcp", "ms k 3 F5\nabc\nmg k v f\nmg miss v q\nmg k v q\nmd k\nmg k v\nmn\n")
    assert shown == ["HD", "VA 3 f5", "abc", "(no reply)", "VA 3", "abc", "HD", "EN", "MN"]


def test_tcp_mode_says_when_a_request_stays_unanswered(server: LocalServer) -> None:
    shown = in_shell(server, "tcp", "set k 0 0 1 noreply\n5\nincr k 1\n")
    assert shown == ["(no reply)", "6"]


def test_tcp_mode_shows_stats_to_their_end(server: LocalServer) -> None:
    shown = in_shell(server, "tcp", "stats\nget k\n")
    assert shown[0].startswith("STAT ")
    assert shown[-2:] == ["END", "END"]


def test_tcp_mode_sends_nothing_when_the_input_ends_inside_the_data(server: LocalServer) -> None:
    shown = in_shell(server, "tcp", "set k 0 0 5\nabc\n")
    assert shown == ["The input ended before the data block did; nothing was sent."]
    assert in_shell(server, "tcp", "get k\n") == ["END"]


def test_tcp_mode_shows_bytes_that_are_no_utf8(server: LocalServer) -> None:
    done = run_program("shell.py", str(server.address), typed=b"set k 0 0 2\n\xff\xfe\nget k\n")
    assert done.stdout.splitlines() == ["STORED", "VALUE k 0 2", "\\xff\\xfe", "END"]


@pytest.mark.parametrize("mode", ["tcp", "memcached"])
def test_nothing_that_a_terminal_acts_on_is_shown(server: LocalServer, mode: str) -> None:
    value = b"\x1b[31m\xc2\x9b\x07\x7f a\r\xc3\xbc\t"
    run_program("shell.py", str(server.address), typed=b"set k 0 0 %d\n%b\n" % (len(value), value))
    done = run_program("shell.py", mode, str(server.address), typed=b"get k\nget \x1b[31m\n")
    assert {character for character in done.stdout if not character.isprintable()} <= {"\n", "\t"}
    if mode == "tcp":
        assert done.stdout == "VALUE k 0 15\n\\x1b[31m\\x9b\\x07\\x7f a\\r\u00fc\t\nEND\nEND\n"


def test_memcached_mode_shows_python_values(server: LocalServer) -> None:
    typed = 'set k "a b" 60\nget k\nget k z\nadd k x\nset n 5\nincr n 3\ndecr n\ntouch k 9\ndelete k\nget k\n'
    shown = in_shell(server, "memcached", typed)
    assert shown == [
        *("True", "b'a b'", "{'k': b'a b'}", "False", "True", "8", "7", "True", "True", "(not found)"),
    ]


def test_memcached_mode_stores_quotes_inside_a_word_as_typed(server: LocalServer) -> None:
    typed = """set k {"a":1}\nget k\nset k '{"a": "b c"}'\nget k\nset k it's\nget k\n"""
    shown = in_shell(server, "memcached", typed)
    assert shown == ["True", """b'{"a":1}'""", "True", """b'{"a": "b c"}'""", "True", '''b"it's"''']


def test_memcached_mode_stores_bytes_that_are_no_utf8(server: LocalServer) -> None:
    done = run_program("shell.py", "memcached", str(server.address), typed=b"set k \xff\xfe\nget k\n")
    assert done.stdout.splitlines() == ["True", r"b'\xff\xfe'"]


def test_memcached_mode_says_when_nothing_was_found(server: LocalServer) -> None:
    shown = in_shell(server, "memcached", "get k\ngets k\nincr k\ndecr k\ncas k v 1\nget k z\n")
    assert shown == ["(not found)"] * 5 + ["{}"]


def test_memcached_mode_compares_and_swaps(server: LocalServer) -> None:
    value, cas = in_shell(server, "memcached", "set k 1\ngets k\n")[1].strip("()").split(", ")
    assert value == "b'1'"
    unique = cas.strip("b'")
    shown = in_shell(server, "memcached", f"cas k 2 {unique}\ncas k 3 {unique}\nget k\n")
    assert shown == ["True", "False", "b'2'"]


def test_memcached_mode_shows_statistics_and_version(server: LocalServer) -> None:
    shown = in_shell(server, "memcached", "version\nstats\n")
    assert shown[0].startswith("b'1.")
    assert any(line.startswith("  b'curr_items': ") for line in shown)


def test_memcached_mode_names_what_is_wrong(server: LocalServer) -> None:
    typed = 'set k\nfrob\nset k v soon\nset s text\nincr s\nget "a b"\nset "x\n'
    shown = in_shell(server, "memcached", typed)
    assert shown[0] == "usage: set KEY VALUE [TTL]"
    assert shown[1] == "no command 'frob'; `help` lists them"
    assert shown[2] == (
        "usage: set KEY VALUE [TTL] (TTL is a whole number, not 'soon'; a value with blanks goes in quotes)"
    )
    assert shown[4] == "MemcacheClientError: cannot increment or decrement non-numeric value"
    assert shown[5].startswith("MemcacheIllegalInputError: ")
    assert shown[6].startswith("cannot read this line: ")


def test_the_mode_can_be_changed_and_help_is_for_the_mode(server: LocalServer) -> None:
    typed = "mode\nmode memcached\nset k v\nhelp\nmode tcp\nget k\nhelp\nmode x\nquit\nget never\n"
    shown = in_shell(server, "tcp", typed)
    assert shown[0].startswith("mode tcp;")
    assert shown[1] == "True"
    assert "  set KEY VALUE [TTL]" in shown
    assert any(line.startswith("tcp mode: ") for line in shown)
    assert shown[-1] == "usage: mode [tcp|memcached]"


@pytest.mark.parametrize("mode", ["tcp", "memcached"])
def test_without_a_server_the_status_is_1_and_one_line_says_what_to_do(mode: str) -> None:
    address = f"127.0.0.1:{free_port()}"
    done = run_program("shell.py", "--mode", mode, address, typed=b"version\n")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"cannot connect to {address}: ")
    assert "python -m memcache_kv -p " in done.stderr


def test_a_missing_unix_socket_is_reported_alike(tmp_path: Path) -> None:
    path = str(tmp_path / "none.sock")
    for mode in ("tcp", "memcached"):
        done = run_program("shell.py", mode, path)
        assert done.returncode == 1
        assert done.stderr.startswith(f"cannot connect to {path}: No such file")


def test_a_lost_server_is_reported_and_the_status_is_1(server: LocalServer) -> None:
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "clients/shell.py"), str(server.address)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(b"version\n")
        process.stdin.flush()
        assert process.stdout.readline().startswith(b"VERSION ")
        server.kill()
        process.stdin.write(b"version\n")
        process.stdin.close()
        assert b"cannot connect to" in process.stderr.read()
        assert process.wait(10) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        "tcp memcached",
        "1.2.3.4:99999",
        "a:1 b:2",
        "--mode udp",
        "--key k.pem",
        "--tls /run/x.sock",
        "--ca /none.pem",
        "--user=",
        "--user=a\tb",
    ],
)
def test_a_wrong_command_line_is_refused(arguments: str) -> None:
    done = run_program("shell.py", *arguments.split())
    assert done.returncode == 2
    assert "error: " in done.stderr


def test_help_shows_examples_also_when_run_as_a_module() -> None:
    command = [sys.executable, "-m", "clients.shell", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=30)
    assert done.returncode == 0
    assert "examples:" in done.stdout


class Terminal:
    """A shell on a pseudo-terminal."""

    def __init__(self, address: str, state: Path, mode: str = "tcp", *options: str) -> None:
        controller, terminal = pty.openpty()
        environment = {**os.environ, "XDG_STATE_HOME": str(state), "TERM": "dumb"}
        self._descriptor = controller
        self._screen = b""
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "clients/shell.py"), mode, address, *options],
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            env=environment,
            preexec_fn=_take_terminal,
        )
        os.close(terminal)

    def type(self, text: bytes) -> None:
        """Type keys."""
        os.write(self._descriptor, text)

    def read_until(self, awaited: bytes) -> bytes:
        """Return what the screen shows up to something awaited, and keep the rest; fail when it does not come."""
        end = time.monotonic() + TERMINAL_TIMEOUT_SECONDS
        while awaited not in self._screen:
            ready, _, _ = select.select([self._descriptor], [], [], max(0, end - time.monotonic()))
            assert ready, f"{awaited!r} did not come; the screen shows {self._screen!r}"
            try:
                self._screen += os.read(self._descriptor, 4096)
            except OSError:  # the shell has ended
                raise AssertionError(f"the shell ended; the screen shows {self._screen!r}") from None
        before, awaited, self._screen = self._screen.partition(awaited)
        return before + awaited

    def press_until(self, keys: bytes, awaited: bytes) -> None:
        """Press these keys until something shows, as a person would around a Ctrl-C.

        Python's readline module does not notice a signal that comes just before it begins to wait for keys; it
        interrupts the line that is typed next.
        """
        end = time.monotonic() + TERMINAL_TIMEOUT_SECONDS
        while awaited not in self._screen:
            assert time.monotonic() < end, f"{awaited!r} did not come; the screen shows {self._screen!r}"
            self.type(keys)
            while awaited not in self._screen and select.select([self._descriptor], [], [], 1)[0]:
                self._screen += os.read(self._descriptor, 4096)
        self.read_until(awaited)

    def wait(self) -> int:
        """Wait for the shell's end; return its exit status."""
        return self.process.wait(TERMINAL_TIMEOUT_SECONDS)

    def close(self) -> None:
        """Hang up."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()
        os.close(self._descriptor)


def _take_terminal() -> None:
    """Make standard input the controlling terminal, so that Ctrl-C reaches the shell."""
    import fcntl
    import termios

    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@contextlib.contextmanager
def on_terminal(address: Address, state: Path, mode: str = "tcp") -> Iterator[Terminal]:
    """Run the shell on a terminal, past its first prompt."""
    terminal = Terminal(str(address), state, mode)
    try:
        terminal.read_until(f"{mode}> ".encode())
        yield terminal
    finally:
        terminal.close()


def test_on_a_terminal_there_are_prompts_also_for_the_data(server: LocalServer, tmp_path: Path) -> None:
    with on_terminal(server.address, tmp_path) as terminal:
        terminal.type(b"set k 0 0 5\n")
        terminal.read_until(b"data, 5 bytes> ")
        terminal.type(b"hello\n")
        terminal.read_until(b"STORED\r\n")
        terminal.type(b"quit\n")
        assert terminal.wait() == 0


def test_the_history_is_there_in_the_next_session(server: LocalServer, tmp_path: Path) -> None:
    with on_terminal(server.address, tmp_path) as terminal:
        terminal.type(b"version\n")
        terminal.read_until(b"VERSION ")
        terminal.read_until(b"tcp> ")
        terminal.type(b"\x04")
        assert terminal.wait() == 0
    assert (tmp_path / "memcache_kv/shell_history").read_text().splitlines()[-1] == "version"
    with on_terminal(server.address, tmp_path) as terminal:
        terminal.type(b"\x10\n")  # Ctrl-P: the line before
        terminal.read_until(b"VERSION ")


def test_ctrl_c_gives_up_the_line_and_not_the_shell(server: LocalServer, tmp_path: Path) -> None:
    with on_terminal(server.address, tmp_path) as terminal:
        terminal.type(b"set k 0 0 5\n")
        terminal.read_until(b"data, 5 bytes> ")
        terminal.press_until(b"\x03", b"tcp> ")
        terminal.press_until(b"get k\n", b"END\r\n")
        assert terminal.process.poll() is None


def test_a_history_that_cannot_be_written_is_no_failure(server: LocalServer, tmp_path: Path) -> None:
    state = tmp_path / "file"
    state.write_text("not a directory")
    with on_terminal(server.address, state) as terminal:
        terminal.type(b"quit\n")
        assert terminal.wait() == 0


def test_ctrl_c_while_reading_from_a_pipe_ends_the_shell_with_130(server: LocalServer) -> None:
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "clients/shell.py"), str(server.address)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"version\n")
        process.stdin.flush()
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130


@pytest.mark.parametrize("mode", ["tcp", "memcached"])
def test_on_a_terminal_the_shell_stays_while_the_server_is_away(mode: str, tmp_path: Path) -> None:
    path = tmp_path / "server.sock"
    command = [*default_command(), "-s", str(path)]
    prompt = f"{mode}> ".encode()
    with LocalServer(command) as server, on_terminal(Address(path=str(path)), tmp_path, mode) as terminal:
        server.kill()
        for _ in range(2):
            terminal.type(b"get k\n")
            terminal.read_until(b"cannot connect to ")
            terminal.read_until(b"the next request tries again\r\n")
            terminal.read_until(prompt)
        with LocalServer(command):
            terminal.type(b"set k 0 0 1\nx\nget k\n" if mode == "tcp" else b"set k x\nget k\n")
            terminal.read_until(b"VALUE k 0 1\r\nx\r\nEND\r\n" if mode == "tcp" else b"b'x'\r\n")
            terminal.type(b"quit\n")
            assert terminal.wait() == 0


@pytest.mark.parametrize("mode", ["tcp", "memcached"])
def test_a_connection_that_was_closed_between_two_requests_is_opened_again(mode: str, tmp_path: Path) -> None:
    path = tmp_path / "server.sock"
    command = [*default_command(), "-s", str(path)]
    server = LocalServer(command)
    with on_terminal(Address(path=str(path)), tmp_path, mode) as terminal:
        server.stop()
        with LocalServer(command):
            terminal.type(b"get k\n")
            terminal.read_until(b"END\r\n" if mode == "tcp" else b"(not found)\r\n")


def test_the_mode_can_be_changed_while_the_server_is_away(tmp_path: Path) -> None:
    path = tmp_path / "server.sock"
    command = [*default_command(), "-s", str(path)]
    with LocalServer(command) as server, on_terminal(Address(path=str(path)), tmp_path) as terminal:
        server.kill()
        terminal.type(b"mode memcached\n")
        terminal.read_until(b"cannot connect to ")
        terminal.read_until(b"memcached> ")
        with LocalServer(command):
            terminal.type(b"get k\n")
            terminal.read_until(b"(not found)\r\n")


@contextlib.contextmanager
def scripted_server(*replies: bytes) -> Iterator[Address]:
    """Listen for one connection, answer each line with the next reply, and close it in place of an empty one."""

    def serve() -> None:
        connection, _ = listener.accept()
        with connection, connection.makefile("rb") as lines:
            for reply in replies:
                if not lines.readline() or not reply:
                    return
                connection.sendall(reply)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield Address(*listener.getsockname()[:2])
        finally:
            thread.join()


def test_memcached_mode_says_why_a_command_got_no_answer() -> None:
    with scripted_server(b"VERSION 1.6.45\r\n", b"") as address:
        done = run_program("shell.py", "memcached", str(address), typed=b"get k\n")
    assert done.stdout == "the server closed the connection; the next command opens a new connection\n"


def test_without_pymemcache_the_tcp_mode_works_and_the_other_says_what_to_install(server: LocalServer) -> None:
    typed = b"mode memcached\nversion\n"
    done = run_program("shell.py", str(server.address), typed=typed, without="pymemcache")
    said, version = done.stdout.splitlines()
    assert said.startswith("pymemcache is not installed: pip install '.[clients]' ")
    assert version.startswith("VERSION ")
    done = run_program("shell.py", "memcached", str(server.address), without="pymemcache")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("pymemcache is not installed: ")
    assert done.stderr.count("\n") == 1


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    """Make certificates."""
    return make_certificates(tmp_path / "certificates")


REQUESTS = {
    "tcp": (b"set k 0 0 1\nx\nget k\n", ["STORED", "VALUE k 0 1", "x", "END"]),
    "memcached": (b"set k x\nget k\n", ["True", "b'x'"]),
}
"""What is typed and what is shown, in each mode."""


@pytest.mark.parametrize("mode", ["tcp", "memcached"])
def test_the_shell_speaks_tls_and_logs_in(certificates: Certificates, tmp_path: Path, mode: str) -> None:
    users = tmp_path / "users"
    users.write_text("ann:two words\n")
    flags = ["-Z", "-o", f"{certificates.suboptions},ssl_ca_cert={certificates.authority}", "-Y", str(users)]
    with Program(*flags, "-l", "127.0.0.1:0,mtls:127.0.0.1:0") as program:
        encrypted, mutual = (address.rpartition(" ")[2] for address in program.listening[:2])
        typed, shown = REQUESTS[mode]
        access = ["--mode", mode, "--ca", str(certificates.authority), "--user", "ann"]
        for way in ([encrypted], [mutual, "--cert", str(certificates.client)]):
            done = run_program("shell.py", *access, *way, typed=typed, MEMCACHED_PASSWORD="two words")
            assert (done.stdout.splitlines(), done.stderr) == (shown, "")
        done = run_program("shell.py", *access, encrypted, typed=typed, MEMCACHED_PASSWORD="wrong")
        assert (done.returncode, done.stdout) == (1, "")
        assert "the login of ann was refused (CLIENT_ERROR authentication failure)" in done.stderr
        done = run_program("shell.py", "--mode", mode, encrypted, "--tls", typed=typed)
        assert (done.returncode, done.stdout) == (1, "")
        assert "its certificate is not trusted (" in done.stderr


def test_memcached_mode_says_that_a_login_is_wanted(tmp_path: Path) -> None:
    users = tmp_path / "users"
    users.write_text("ann:secret\n")
    with Program("-l", "127.0.0.1:0", "-Y", str(users)) as program:
        done = run_program("shell.py", "memcached", program.listening[0], typed=b"get k\n")
    assert done.returncode == 1
    assert "it refuses to answer (unauthenticated); --user logs in" in done.stderr


def test_a_password_is_asked_for_on_the_terminal_and_not_shown(tmp_path: Path) -> None:
    users = tmp_path / "users"
    users.write_text("ann:secret\n")
    with Program("-l", "127.0.0.1:0", "-Y", str(users)) as program:
        terminal = Terminal(program.listening[0], tmp_path, "tcp", "--user", "ann")
        try:
            terminal.read_until(b"password of ann: ")
            terminal.type(b"secret\n")
            assert b"secret" not in terminal.read_until(b"tcp> ")
            terminal.type(b"get k\n")
            terminal.read_until(b"END\r\n")
        finally:
            terminal.close()
