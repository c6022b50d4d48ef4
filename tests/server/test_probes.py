"""The probes of `memcache-kv health`: every kind of listener, logins, certificates, and the admin listener."""

import os
import signal
from contextlib import ExitStack
from pathlib import Path

import pytest

from memcache_kv.server.health import Address, check, read_address
from memcache_kv.server.probes import Account, NotReady, Question, Unhealthy
from tests.certificates import Certificates, make_certificates
from tests.integration.admin_program import AdminProgram, loaded
from tests.program import PATIENCE_SECONDS, Program, poll_until, run_to_its_end

LOOPBACK = ("-p", "0", "-l", "127.0.0.1")
ANN, WRONG = Account("ann", "secret"), Account("ann", "guess")
LINE_ANSWER = "ERROR unknown command; allowed: "
ALIVE, READY = Question(admin_path="/livez"), Question(admin_path="/readyz")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("probes") / "certificates")


@pytest.fixture
def users(tmp_path: Path) -> Path:
    path = tmp_path / "users"
    path.write_text("ann:secret\n")
    path.chmod(0o600)
    return path


def address_of(program: Program, dialect: str = "") -> Address:
    """The address of the first listener of a dialect."""
    found = next(each for each in program.listening if each.endswith(f" ({dialect})" if dialect else ""))
    return Address("127.0.0.1", int(found.partition(" ")[0].rpartition(":")[2]))


def ask(address: Address, question: Question) -> str:
    return check(address, question, PATIENCE_SECONDS)


# Every kind of listener


@pytest.mark.parametrize("tls", [False, True])
def test_every_kind_of_listener_can_be_asked(tls: bool, certificates: Certificates, tmp_path: Path) -> None:
    kinds = {"line": LINE_ANSWER, "simple": "VERSION 1.6.45", "http": "answers by HTTP"}
    sockets = {kind: tmp_path / kind for kind in kinds}
    flags = ["-Z", "-o", certificates.suboptions] if tls else []
    for kind, path in sockets.items():
        flags += [f"--{kind}-listen", f"127.0.0.1:0,{path}"]
    with Program(*LOOPBACK, *flags) as program:
        for kind, said in kinds.items():
            for address in (address_of(program, kind), read_address(str(sockets[kind]))):
                assert ask(address, Question()).startswith(said)


def test_listeners_that_need_a_login_or_are_full_can_be_asked(users: Path) -> None:
    flags = ("-Y", str(users), "-c", "1", "--http-listen", "127.0.0.1:0", "--login-timeout", "0")
    with Program(*LOOPBACK, *flags) as program:
        address = address_of(program, "http")
        assert ask(address, Question()) == "answers by HTTP"
        with ExitStack() as clients:

            def takes_the_place() -> bool:
                client = clients.enter_context(address.connect(PATIENCE_SECONDS))
                client.sendall(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n")
                return client.recv(100).startswith(b"HTTP/1.1 401 ")

            poll_until(takes_the_place, "the server has closed the connections of the probes")
            assert ask(address, Question()) == "answers by HTTP"


def test_an_admin_listener_is_found_well_as_any_other(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("secret")
    for flags in ((), ("--admin-token-file", str(token))):
        with loaded(*flags) as program:
            assert ask(Address("127.0.0.1", program.admin_port), Question()) == "answers by HTTP"


# Logins


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["-Y", "{users}"], "VERSION 1.6.45"),
        (["-S", "-Y", "{users}"], "VERSION 1.6.45"),
        (["-S", "-Y", "{users}", "-B", "binary"], "answers in the binary protocol"),
    ],
)
def test_a_login_must_succeed_where_one_is_needed(flags: list[str], said: str, users: Path) -> None:
    flags = [flag.format(users=users) for flag in flags]
    with Program(*LOOPBACK, "--http-listen", "127.0.0.1:0", *flags) as program:
        for address, answer in ((address_of(program), said), (address_of(program, "http"), "answers by HTTP")):
            assert ask(address, Question(account=ANN)) == answer
            with pytest.raises(Unhealthy, match="the login as ann failed"):
                ask(address, Question(account=WRONG))


@pytest.mark.parametrize("flags", [[], ["-B", "binary"]])
def test_where_no_login_is_needed_none_is_sent_as_an_item(flags: list[str]) -> None:
    with Program(*LOOPBACK, "--http-listen", "127.0.0.1:0", *flags) as program:
        for address in (address_of(program), address_of(program, "http")):
            assert ask(address, Question(account=ANN))
        if not flags:
            assert program.ask(b"mg login v\r\n") == b"EN\r\n"


# The admin listener


def test_the_admin_listener_says_whether_the_server_is_alive_and_ready(tmp_path: Path) -> None:
    pipe = tmp_path / "items"
    os.mkfifo(pipe)
    with AdminProgram("--preload", str(pipe), "--drain-seconds", "1000") as program:
        address = Address("127.0.0.1", program.admin_port)
        with pipe.open("wb"):
            assert ask(address, ALIVE) == "alive"
            with pytest.raises(NotReady, match="the server is not ready: the items are being loaded"):
                ask(address, READY)
        program.wait_until_loaded()
        poll_until(lambda: program.reasons() == [], "it is ready")
        assert ask(address, READY) == "ready"
        program.process.send_signal(signal.SIGTERM)
        poll_until(lambda: program.reasons() != [], "it drains")
        assert ask(address, ALIVE) == "alive"
        with pytest.raises(NotReady, match="the server stops soon"):
            ask(address, READY)


def test_the_admin_listener_can_be_asked_over_tls_and_unix_sockets(certificates: Certificates, tmp_path: Path) -> None:
    path = tmp_path / "admin"
    with loaded("--admin-tls", "-o", certificates.suboptions, "--admin-listen", str(path)) as program:
        for address in (Address("127.0.0.1", program.admin_port), read_address(str(path))):
            assert ask(address, ALIVE) == "alive"
            assert ask(address, READY) == "ready"


def test_other_listeners_are_no_admin_listener() -> None:
    with Program(*LOOPBACK, "--http-listen", "127.0.0.1:0") as program:
        for address in (address_of(program), address_of(program, "http")):
            with pytest.raises(Unhealthy, match="does not answer as the admin listener of a memcache_kv server does"):
                ask(address, ALIVE)


# The program


def health(*arguments: str, **variables: str) -> tuple[int, str]:
    """The status of the program, and what it says."""
    done = run_to_its_end("health", "--timeout", str(PATIENCE_SECONDS), *arguments, **variables)
    return done.returncode, done.stdout + done.stderr


def test_the_program_logs_in_and_checks_certificates(users: Path, certificates: Certificates, tmp_path: Path) -> None:
    options = f"{certificates.suboptions},ssl_ca_cert={certificates.authority},ssl_verify_mode=2"
    others = make_certificates(tmp_path / "others")
    trusted, shown = ("--ca", str(certificates.authority)), ("--cert", str(certificates.client))
    with Program(*LOOPBACK, "-Z", "-o", options, "-Y", str(users)) as program:
        address = f"127.0.0.1:{program.port}"
        login = ("--address", address, "--user", "ann", *trusted, *shown)
        assert health(*login, MEMCACHED_PASSWORD="secret") == (0, f"{address}: VERSION 1.6.45\n")
        assert health(*login, MEMCACHED_PASSWORD="x") == (1, "memcache-kv health: the login as ann failed\n")
        status, said = health("--address", address, *trusted)
        assert (status, "requires a client certificate" in said) == (0, True)
        status, said = health("--address", address, "--ca", str(others.authority), *shown)
        assert (status, "its certificate is not trusted" in said) == (1, True)
        status, said = health("--address", address, *trusted, "--cert", str(others.client))
        assert (status, "rejects the certificate" in said) == (1, True)


def test_without_flags_the_program_asks_the_admin_listener(tmp_path: Path) -> None:
    """As in a container, whose server has written its ports, while all connections are taken."""
    ports = {"MEMCACHED_PORT_FILENAME": str(tmp_path / "ports")}
    flags = (*LOOPBACK, "-c", "1", "--admin-listen", "127.0.0.1:0", "--drain-seconds", "1000")
    with Program(*flags, **ports) as program, address_of(program).connect(PATIENCE_SECONDS) as client:
        client.sendall(b"mn\r\n")
        assert client.recv(10) == b"MN\r\n"
        poll_until((tmp_path / "ports").exists, "it has written its ports")
        status, said = health(**ports)
        assert (status, said.endswith(": alive\n")) == (0, True)
        status, said = health("--ready", **ports)
        assert (status, said.endswith(": ready\n")) == (0, True)
        program.process.send_signal(signal.SIGTERM)
        poll_until(lambda: health("--ready", **ports)[0] == 3, "it drains")
        assert health("--admin", **ports)[0] == 0
        assert program.end() == 0
    assert health("--admin", **ports)[0] == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("--user", "ann"), ("--user", "a b"), ("--user", ""), ("--user", "ann", "--ready"), ("--key", "k"),
        ("--ca", "/none"), ("--cert", "/none"), ("--address", "/run/x", "--tls"), ("--ready", "--address", ":x"),
    ],
)  # fmt: skip
def test_flags_that_make_no_sense_end_it_with_status_2(arguments: tuple[str, ...]) -> None:
    status, said = health(*arguments)
    assert (status, "Traceback" in said) == (2, False)
