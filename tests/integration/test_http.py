"""HTTP of a real server with real clients, beside memcached's protocols over one store and one journal."""

import http.client
import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import bcrypt
import pytest
import requests
from pymemcache.client.base import Client  # type: ignore[import-untyped]

from memcache_kv.protocol.http.content_types import JSON_FLAGS
from tests.integration.test_line_protocol import address_of, ask
from tests.program import PATIENCE_SECONDS, Program, poll_until, run_to_its_end

CURL = shutil.which("curl")


def start(*flags: str) -> Program:
    """A server with a listener of HTTP."""
    return Program("-p", "0", "-l", "127.0.0.1", "--http-listen", "127.0.0.1:0", *flags)


def url_of(program: Program) -> str:
    return f"http://127.0.0.1:{address_of(program, 'http')}"


def test_row_cs_session_runs_with_requests() -> None:
    with start() as program, requests.Session() as session:
        url = url_of(program)
        for value in ("value_1", 5, 1.5, None, True, ["a", {"b": None}], {"k": "é"}, "", 2**70):
            for store in (session.put, session.post):
                stored = store(f"{url}/key_1", json={"value": value}, timeout=PATIENCE_SECONDS)
                assert (stored.status_code, stored.text) == (200, '{"message": "Value stored successfully"}')
            got = session.get(f"{url}/key_1", timeout=PATIENCE_SECONDS)
            assert (got.status_code, got.json()) == (200, {"value": value})
        gone = session.delete(f"{url}/key_1", timeout=PATIENCE_SECONDS)
        assert (gone.status_code, gone.text) == (200, '{"message": "Key deleted successfully"}')
        for ask_again in (session.get, session.delete):
            missing = ask_again(f"{url}/key_1", timeout=PATIENCE_SECONDS)
            assert (missing.status_code, missing.text) == (404, '{"error": "Key not found"}')


def test_http_client_speaks_v1() -> None:
    with start() as program:
        connection = http.client.HTTPConnection("127.0.0.1", address_of(program, "http"), timeout=PATIENCE_SECONDS)

        def send(method: str, path: str, body: object = None, **headers: str) -> tuple[int, bytes, str]:
            names = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, names)  # type: ignore[arg-type]
            reply = connection.getresponse()
            return reply.status, reply.read(), reply.getheader("ETag", "")

        large = os.urandom(900_000)
        status, _, tag = send("PUT", "/v1/kv/large?ttl=100", large, Content_Type="image/png")
        assert status == 201
        assert send("GET", "/v1/kv/large") == (200, large, tag)
        assert send("HEAD", "/v1/kv/large") == (200, b"", tag)
        assert send("GET", "/v1/kv/large", If_None_Match=tag) == (304, b"", tag)
        assert send("PUT", "/v1/kv/large", b"x" * 3_000_000)[0] == 413
        assert send("PUT", "/v1/kv/large", b"small", If_Match=tag)[0] == 204
        assert send("PUT", "/v1/kv/large", b"late", If_Match=tag)[0] == 412
        assert send("GET", "/v1/kv/large")[1] == b"small"
        assert send("PUT", "/v1/kv/piece", iter([b"in ", b"pieces"]))[0] == 201  # chunked
        assert send("GET", "/v1/kv/piece")[1] == b"in pieces"
        keys = json.loads(send("GET", "/v1/kv?prefix=p")[1])["keys"]
        assert [row["key"] for row in keys] == ["piece"]
        operations = [{"method": "DELETE", "key": key} for key in ("large", "piece", "none")]
        _, body, _ = send("POST", "/v1/pipeline", json.dumps(operations), Content_Type="application/json")
        assert [result["status"] for result in json.loads(body)] == [204, 204, 404]
        connection.close()


@pytest.mark.skipif(CURL is None and not os.environ.get("CI"), reason="curl is not installed")
def test_curl_speaks_it_over_tcp_and_a_unix_socket(tmp_path: Path) -> None:
    file, path = tmp_path / "value", tmp_path / "http.sock"
    file.write_bytes(b"v" * 100_000)

    def curl(*arguments: str) -> bytes:
        assert CURL is not None
        return subprocess.run(
            [CURL, "-s", "-w", "%{http_code}", *arguments], capture_output=True, timeout=PATIENCE_SECONDS, check=True
        ).stdout

    with start("--http-listen", str(path)) as program:
        url = url_of(program)
        assert curl("-T", str(file), f"{url}/v1/kv/file") == b"201"  # waits for 100 Continue
        assert curl(f"{url}/v1/kv/file") == file.read_bytes() + b"200"
        assert curl("--unix-socket", str(path), "http://localhost/v1/kv/file") == file.read_bytes() + b"200"
        assert curl("--http1.0", "-d", '{"value": [1]}', f"{url}/k") == b'{"message": "Value stored successfully"}200'
        assert curl(f"{url}/k", f"{url}/k") == b'{"value": [1]}200' * 2


@pytest.mark.parametrize("fsync", ["always", "everysec"])
def test_all_protocols_share_one_store_and_one_journal_which_survives_a_kill(tmp_path: Path, fsync: str) -> None:
    flags = ("--journal", str(tmp_path / "journal"), "--fsync", fsync, "--line-listen", "127.0.0.1:0")
    tags = {}
    with start(*flags) as program, requests.Session() as session:
        url, text = url_of(program), Client(("127.0.0.1", program.port))
        assert session.put(f"{url}/json", json={"value": {"a": 1}}, timeout=PATIENCE_SECONDS).status_code == 200
        headers = {"Content-Type": "text/html; charset=utf-8"}
        stored = session.put(f"{url}/v1/kv/a%20page?ttl=1000", data=b"<p>", headers=headers, timeout=PATIENCE_SECONDS)
        assert stored.status_code == 201
        tags["a%20page"] = stored.headers["ETag"]
        assert text.set("by-text", b"four", noreply=False)
        assert text.get("json") == b'{"a": 1}'
        assert ask(address_of(program, "line"), b"GET by-text\nPUT by-line five\nQUIT\n") == b"OK four\nOK stored\n"
        for key, value in (("by-text", "four"), ("by-line", "five")):
            assert session.get(f"{url}/{key}", timeout=PATIENCE_SECONDS).json() == {"value": value}
        text.close()
        os.kill(program.process.pid, signal.SIGKILL)
        program.process.wait(PATIENCE_SECONDS)
    with start(*flags) as program, requests.Session() as session:
        url, text = url_of(program), Client(("127.0.0.1", program.port))
        assert session.get(f"{url}/json", timeout=PATIENCE_SECONDS).json() == {"value": {"a": 1}}
        assert text.raw_command("get json", b"END\r\n").startswith(b"VALUE json %d 8\r\n" % JSON_FLAGS)
        page = session.get(f"{url}/v1/kv/a%20page", timeout=PATIENCE_SECONDS)
        assert (page.content, page.headers["Content-Type"]) == (b"<p>", "text/html; charset=utf-8")
        assert page.headers["ETag"] == tags["a%20page"]
        assert session.get(f"{url}/by-line", timeout=PATIENCE_SECONDS).json() == {"value": "five"}
        text.close()


def test_tokens_are_those_of_the_users_file(tmp_path: Path) -> None:
    users = tmp_path / "users"
    hashed = bcrypt.hashpw(b"other", bcrypt.gensalt(4)).decode()
    users.write_text(f"reader:secret:read\nwriter:{hashed}\n")
    users.chmod(0o600)
    with start("-Y", str(users)) as program, requests.Session() as session:
        url = f"{url_of(program)}/v1/kv/k"

        def put(token: str) -> int:
            headers = {"Authorization": f"Bearer {token}"}
            return session.put(url, data=b"1", headers=headers, timeout=PATIENCE_SECONDS).status_code

        assert session.get(url, timeout=PATIENCE_SECONDS).status_code == 401
        assert [put("writer:other"), put("reader:secret"), put("writer:other"), put("reader:nope")] == [
            201,
            403,
            204,
            401,
        ]
        assert [put("writer:nope"), put("writer:other"), put("reader:secret")] == [401, 204, 403]


def test_the_operation_log_is_opened_again_at_sighup(tmp_path: Path) -> None:
    path = tmp_path / "operations"
    with start("--operation-log", str(path), "--journal", str(tmp_path / "journal")) as program:
        url = url_of(program)
        requests.put(f"{url}/first", json={"value": 1}, timeout=PATIENCE_SECONDS)
        poll_until(lambda: "SAVE" in path.read_text(), "a save")
        path.rename(tmp_path / "operations.1")
        program.process.send_signal(signal.SIGHUP)
        requests.put(f"{url}/second", json={"value": 2}, timeout=PATIENCE_SECONDS)
        assert program.end() == 0
    assert "PUT - Key: first, Value: 1\n" in (tmp_path / "operations.1").read_text()
    assert "PUT - Key: second, Value: 2\n" in path.read_text()


def test_without_h11_the_server_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "h11.py").write_text("raise ModuleNotFoundError(\"No module named 'h11'\", name='h11')\n")
    done = run_to_its_end("-p", "0", "--http-listen", "0", PYTHONPATH=str(tmp_path))
    assert done.returncode != 0
    assert "--http-listen needs the package h11: pip install h11" in done.stderr
    with Program("-p", "0", "-l", "127.0.0.1", PYTHONPATH=str(tmp_path)) as program:
        assert program.ask(b"version\r\n").startswith(b"VERSION ")


def flood(connection: http.client.HTTPConnection) -> None:
    """Send many requests, and read no reply."""
    for _ in range(1000):
        connection.sock.sendall(b"GET /v1/kv/k HTTP/1.1\r\nHost: localhost\r\n\r\n" * 1000)


def test_a_client_that_does_not_read_its_replies_delays_nobody() -> None:
    with start("-t", "1") as program:
        port = address_of(program, "http")
        requests.put(f"http://127.0.0.1:{port}/v1/kv/k", data=b"v" * 100_000, timeout=PATIENCE_SECONDS)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=0.5)
        connection.connect()
        with pytest.raises(TimeoutError):  # the server does not read more until its replies are read
            flood(connection)
        assert requests.get(f"http://127.0.0.1:{port}/none", timeout=PATIENCE_SECONDS).status_code == 404
        connection.close()
