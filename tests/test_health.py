"""`memcache-kv health`: which servers it finds well, and where it looks for one."""

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from memcache_kv.cli import main
from memcache_kv.errors import ConfigError, ListenError
from memcache_kv.server.health import Address, check, default_address, read_address
from memcache_kv.server.probes import Question, Unhealthy
from tests.certificates import Certificates, make_certificates
from tests.program import PATIENCE_SECONDS, Program, poll_until, run_to_its_end

LOOPBACK = ("-p", "0", "-l", "127.0.0.1")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("health") / "certificates")


@pytest.fixture
def users(tmp_path: Path) -> Path:
    path = tmp_path / "users"
    path.write_text("ann:secret\n")
    path.chmod(0o600)
    return path


# Servers that answer

LOGINS = [
    ([], "VERSION 1.6.45"),
    (["-B", "ascii"], "VERSION 1.6.45"),
    (["-B", "binary"], "answers in the binary protocol"),
    (["-Y", "{users}"], "CLIENT_ERROR unauthenticated"),
    (["-S", "-Y", "{users}"], "CLIENT_ERROR unauthenticated"),
    (["-S", "-Y", "{users}", "-B", "binary"], "answers in the binary protocol"),
]


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize(("flags", "said"), LOGINS)
def test_a_server_is_well_whatever_it_wants_of_clients(
    flags: list[str], said: str, tls: bool, users: Path, certificates: Certificates
) -> None:
    flags = [flag.format(users=users) for flag in flags] + (["-Z", "-o", certificates.suboptions] if tls else [])
    with Program(*LOOPBACK, *flags) as program:
        for _ in range(12):  # more often than a login may fail
            assert check(Address("127.0.0.1", program.port), timeout=PATIENCE_SECONDS) == said


@pytest.mark.parametrize("version", [2, 3])
def test_a_server_that_wants_a_certificate_is_well(certificates: Certificates, version: int) -> None:
    options = f"{certificates.suboptions},ssl_ca_cert={certificates.authority},ssl_verify_mode=2"
    with Program(*LOOPBACK, "-Z", "-o", f"{options},ssl_min_version={version}") as program:
        said = check(Address("127.0.0.1", program.port), timeout=PATIENCE_SECONDS)
    assert said == "answers with TLS, and requires a client certificate"


def test_a_server_that_is_full_is_well() -> None:
    with (
        Program(*LOOPBACK, "-c", "1") as program,
        socket.create_connection(("127.0.0.1", program.port), PATIENCE_SECONDS) as client,
    ):
        client.sendall(b"version\r\n")
        assert client.recv(100)
        said = check(Address("127.0.0.1", program.port), timeout=PATIENCE_SECONDS)
    assert said == "ERROR Too many open connections"


def test_a_unix_socket_can_be_asked(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with Program("-s", str(path)):
        assert check(read_address(str(path)), timeout=PATIENCE_SECONDS) == "VERSION 1.6.45"


def test_tls_alone_costs_no_failed_handshake(certificates: Certificates) -> None:
    with Program(*LOOPBACK, "-Z", "-o", certificates.suboptions) as program:
        assert (
            check(Address("127.0.0.1", program.port), Question(only_tls=True), timeout=PATIENCE_SECONDS)
            == "VERSION 1.6.45"
        )
        with certificates.connect(program.port) as client:
            client.sendall(b"stats\r\nquit\r\n")
            assert b"STAT ssl_handshake_errors 0\r\n" in client.makefile("rb").read()


# Servers that do not

Serve = Callable[[Callable[[socket.socket], None]], Address]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start a listener that does this to each connection, until the test is over."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def start(treat: Callable[[socket.socket], None]) -> Address:
            def accept() -> None:
                while True:
                    try:
                        sock, _ = listener.accept()
                    except OSError:
                        return
                    with sock:
                        treat(sock)

            threading.Thread(target=accept, daemon=True).start()
            return Address("127.0.0.1", listener.getsockname()[1])

        yield start
        listener.shutdown(socket.SHUT_RDWR)


def read_and_answer(answer: bytes) -> Callable[[socket.socket], None]:
    def treat(sock: socket.socket) -> None:
        sock.settimeout(PATIENCE_SECONDS)
        sock.recv(1024)
        sock.sendall(answer)

    return treat


def test_nobody_there_is_said() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))  # has the port, and does not listen
        with pytest.raises(Unhealthy, match=r"can't connect to 127\.0\.0\.1:.*refused"):
            check(Address("127.0.0.1", sock.getsockname()[1]))


def test_a_missing_unix_socket_is_said(tmp_path: Path) -> None:
    with pytest.raises(Unhealthy, match="No such file"):
        check(read_address(str(tmp_path / "socket")))


def test_a_server_that_never_answers_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with pytest.raises(Unhealthy, match=r"does not answer within 0\.1 s"):
            check(Address("127.0.0.1", listener.getsockname()[1]), timeout=0.1)


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"-ERR unknown command\r\n", b"ERROR\r\n", b"x" * 5000]
)
def test_another_kind_of_server_is_not_ours(serve: Serve, answer: bytes) -> None:
    address = serve(read_and_answer(answer))
    with pytest.raises(Unhealthy, match="does not answer as a memcached server does"):
        check(address, timeout=PATIENCE_SECONDS)


# Where it asks


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("10.0.0.1", Address("10.0.0.1", 11211)),
        ("10.0.0.1:5", Address("10.0.0.1", 5)),
        ("[::1]:5", Address("::1", 5)),
        ("::1", Address("::1", 11211)),
        ("*:5", Address("127.0.0.1", 5)),
        ("/run/socket", Address("", 0, "/run/socket")),
        ("./socket", Address("", 0, "./socket")),
    ],
)
def test_an_address_is_read_as_l_and_s_are(text: str, address: Address) -> None:
    assert read_address(text) == address


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(ListenError):
        read_address("127.0.0.1:abc")


@pytest.mark.parametrize(
    ("environ", "address"),
    [
        ({}, Address("127.0.0.1", 11211)),
        ({"PORT": "5"}, Address("127.0.0.1", 5)),
        ({"PORT": "tcp://10.0.0.7:11211"}, Address("127.0.0.1", 11211)),
        ({"LISTEN": "0.0.0.0"}, Address("127.0.0.1", 11211)),
        ({"LISTEN": "[::]:5"}, Address("::1", 5)),
        ({"LISTEN": "10.0.0.1,10.0.0.2", "PORT": "5"}, Address("10.0.0.1", 5)),
        ({"LISTEN": "mtls:10.0.0.1:6", "ENABLE_SSL": "1"}, Address("10.0.0.1", 6)),
        ({"UNIX_SOCKET": "/run/socket"}, Address("", 0, "/run/socket")),
        ({"UNIX_SOCKET": "/run/socket", "PORT": "5"}, Address("127.0.0.1", 5)),
    ],
)
def test_without_an_address_the_environment_says_where(environ: dict[str, str], address: Address) -> None:
    found = default_address({f"MEMCACHE_KV_{name}": value for name, value in environ.items()}, False, has_user=False)
    assert found == (address, False)


@pytest.mark.parametrize(
    ("written", "environ", "address"),
    [
        ("TCP INET: 5\nTCP INET6: 5\nUDP INET: 7\n", {}, Address("127.0.0.1", 5)),
        ("TCP INET6: 5\n", {"MEMCACHE_KV_LISTEN": "0.0.0.0"}, Address("::1", 5)),
        ("TCP INET: 5\n", {"MEMCACHE_KV_PORT": "6"}, Address("127.0.0.1", 5)),
        ("TCP INET: 5\n", {"MEMCACHE_KV_LISTEN": "10.0.0.1"}, Address("10.0.0.1", 5)),
        ("UDP INET: 7\n", {}, Address("127.0.0.1", 11211)),
        ("", {"MEMCACHE_KV_PORT": "6"}, Address("127.0.0.1", 6)),
        (None, {"MEMCACHE_KV_PORT": "6"}, Address("127.0.0.1", 6)),
    ],
)
def test_the_port_that_a_server_has_written_counts_first(
    tmp_path: Path, written: str | None, environ: dict[str, str], address: Address
) -> None:
    path = tmp_path / "ports"
    if written is not None:
        path.write_text(written)
    found = default_address(environ | {"MEMCACHED_PORT_FILENAME": str(path)}, False, has_user=False)
    assert found == (address, False)


@pytest.mark.parametrize(
    ("written", "environ", "address"),
    [
        (None, {"ADMIN_LISTEN": "9150"}, Address("127.0.0.1", 9150)),
        (None, {"ADMIN_LISTEN": "0.0.0.0:9151"}, Address("127.0.0.1", 9151)),
        (None, {"ADMIN_LISTEN": "[::]:9151,9150"}, Address("::1", 9151)),
        (None, {"ADMIN_LISTEN": "10.0.0.1:9150", "LISTEN": "10.0.0.2"}, Address("10.0.0.1", 9150)),
        (None, {"ADMIN_LISTEN": "btls:10.0.0.1:9150", "ADMIN_TLS": "1"}, Address("10.0.0.1", 9150)),
        (None, {"ADMIN_LISTEN": "/run/admin"}, Address("", 0, "/run/admin")),
        ("TCP INET: 5\nADMIN INET: 6\n", {}, Address("127.0.0.1", 6)),
        ("TCP INET: 5\nADMIN INET6: 6\n", {}, Address("::1", 6)),
        ("TCP INET: 5\nADMIN INET: 6\n", {"ADMIN_LISTEN": "10.0.0.1:0"}, Address("10.0.0.1", 6)),
    ],
)
def test_an_admin_listener_is_asked_first_but_for_a_login(
    tmp_path: Path, written: str | None, environ: dict[str, str], address: Address
) -> None:
    variables = {f"MEMCACHE_KV_{name}": value for name, value in environ.items()}
    if written is not None:
        (tmp_path / "ports").write_text(written)
        variables["MEMCACHED_PORT_FILENAME"] = str(tmp_path / "ports")
    assert default_address(variables, False, has_user=False) == (address, True)
    assert default_address(variables, True, has_user=False) == (address, True)
    port = 11211 if written is None else 5
    assert default_address(variables, False, has_user=True)[0].port == port


def test_where_no_admin_listener_is_known_it_is_asked_on_the_port_of_the_exporter() -> None:
    assert default_address({}, True, has_user=False) == (Address("127.0.0.1", 9150), True)


def test_an_environment_that_makes_no_sense_is_said() -> None:
    with pytest.raises(ConfigError):
        default_address({"MEMCACHE_KV_PORT": "x"}, False, has_user=False)


def test_a_server_on_a_port_of_its_own_choice_is_found(tmp_path: Path) -> None:
    ports = {"MEMCACHED_PORT_FILENAME": str(tmp_path / "ports")}
    with Program("-p", "0", **ports) as program:
        poll_until((tmp_path / "ports").exists, "it has written its ports")
        done = run_to_its_end("health", **ports)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"127.0.0.1:{program.port}: VERSION 1.6.45\n"


# Exit statuses


def test_a_server_that_does_not_answer_ends_it_with_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["health", "--address", "/nonexistent/socket"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [["--nonsense"], ["word"], ["--timeout", "0"], ["--timeout", "nan"], ["--timeout", "-1"], ["--address", ":x"]],
)
def test_a_wrong_flag_ends_it_with_status_2(arguments: list[str]) -> None:
    done = run_to_its_end("health", *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
