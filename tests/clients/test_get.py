"""The client that prints one value, fetched over HTTP."""

import http.server
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from clients.address import Address
from clients.get import fetch
from memcache_kv.config.options import OPTIONS
from tests.clients.programs import run_program
from tests.ports import free_port
from tests.program import Program

VALUES = {
    "/v1/kv/key": b"value of it",
    "/v1/kv/a%20%2F%3F%23%25%C3%A4": b"odd",
    "/v1/kv/binary": bytes(range(256)),
    "/v1/kv/empty": b"",
}


class Answer(http.server.BaseHTTPRequestHandler):
    """Answers as the server's HTTP listener does."""

    def do_GET(self) -> None:
        value = VALUES.get(self.path)
        status = 401 if self.path == "/v1/kv/secret" else 404 if value is None else 200
        body = value if value is not None else b'{"title":"no"}'
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    """A server with these values."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_the_value_is_printed(address: str) -> None:
    for key, value in (("key", "value of it\n"), ("a /?#%ä", "odd\n"), ("empty", "\n")):
        done = run_program("get.py", address, key)
        assert (done.returncode, done.stdout, done.stderr) == (0, value, "")


def test_every_byte_of_a_value_comes(address: str) -> None:
    host, _, port = address.partition(":")
    assert fetch(Address(host, int(port)), b"binary") == (200, bytes(range(256)))


def test_a_missing_key_is_told_by_the_status(address: str) -> None:
    done = run_program("get.py", address, "none")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "none: not found\n")


def test_an_error_of_the_server_is_shown(address: str) -> None:
    done = run_program("get.py", address, "secret")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f'{address} answers with the status 401: {{"title":"no"}}\n'


def test_a_server_that_does_not_answer_over_http_is_told_in_one_line() -> None:
    done = run_program("get.py", f"127.0.0.1:{free_port()}", "key")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "does not answer over HTTP: Connection refused" in done.stderr
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            with closing(listener.accept()[0]) as connection:
                connection.recv(1000)
                connection.sendall(b"ERROR\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        done = run_program("get.py", f"127.0.0.1:{listener.getsockname()[1]}", "key")
        thread.join()
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


@pytest.mark.parametrize("address", ["localhost", "/tmp/socket", "localhost:x", "localhost:0"])
def test_what_is_no_address_is_an_error(address: str) -> None:
    done = run_program("get.py", address, "key")
    assert (done.returncode, "is no address" in done.stderr) == (2, True)


@pytest.mark.skipif("http-listen" not in {option.name for option in OPTIONS}, reason="this server speaks no HTTP")
def test_a_row_of_a_data_file_is_printed(tmp_path: Path) -> None:
    (tmp_path / "rows").write_text("4a7f6e0e-0d6b-4b5e-9d0f-5f4d2a9d7c11 a value of it\n")
    port = free_port()
    flags = ("--preload", str(tmp_path / "rows"), "--http-listen", f"127.0.0.1:{port}")
    with Program("-p", "0", "-l", "127.0.0.1", *flags):
        done = run_program("get.py", f"127.0.0.1:{port}", "4a7f6e0e-0d6b-4b5e-9d0f-5f4d2a9d7c11")
        assert (done.returncode, done.stdout) == (0, "a value of it\n")
        assert run_program("get.py", f"127.0.0.1:{port}", "none").returncode == 1
