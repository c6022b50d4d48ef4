"""TLS as clients meet it: handshakes fast, slow and broken, certificates requested and swapped, all TLS modes."""

import os
import shutil
import signal
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from pymemcache.client.base import Client  # type: ignore[import-untyped]

from tests.certificates import Certificates, ask, make_certificates, stats
from tests.ports import free_port
from tests.program import PATIENCE_SECONDS, Program, poll_until, run_to_its_end

START_HELLO = bytes.fromhex("160301020001")
"""The first bytes of a handshake."""

Start = Callable[..., Program]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Certificates, Certificates]:
    return tuple(make_certificates(tmp_path_factory.mktemp(name)) for name in ("ours", "other"))  # type: ignore[return-value]


@pytest.fixture
def certificates(made: tuple[Certificates, Certificates]) -> Certificates:
    return made[0]


@pytest.fixture
def other(made: tuple[Certificates, Certificates]) -> Certificates:
    """Those of an authority that nobody trusts."""
    return made[1]


@pytest.fixture
def start(certificates: Certificates) -> Iterator[Start]:
    with ExitStack() as started:

        def make(*flags: str, suboptions: str = "", listen: str = "127.0.0.1") -> Program:
            given = ["-o", suboptions] if suboptions else []
            program = Program("-Z", "-p", "0", "-l", listen, "-o", certificates.suboptions, *given, *flags)
            return started.enter_context(program)

        yield make


def refused(certificates: Certificates, port: int, context: ssl.SSLContext | None = None) -> bool:
    """Whether a client is let go in its handshake, or right after it, which is when TLS 1.3 tells of it."""
    try:
        with certificates.connect(port, context) as client:
            client.sendall(b"mn\r\n")
            return client.recv(100) == b""
    except OSError:
        return True


# Clients


@pytest.mark.parametrize("with_client", [False, True])
def test_pymemcache_works_over_tls(certificates: Certificates, start: Start, with_client: bool) -> None:
    mode = f"ssl_verify_mode={2 * with_client},ssl_ca_cert={certificates.authority}"
    program = start(suboptions=mode)
    client = Client(("127.0.0.1", program.port), tls_context=certificates.context(with_client))
    assert client.set("a", b"x" * 100_000, noreply=False)
    assert client.get("a") == b"x" * 100_000
    assert client.delete("a", noreply=False)
    client.close()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_values_larger_than_every_buffer_come_back_whole(
    certificates: Certificates, start: Start, version: ssl.TLSVersion
) -> None:
    program = start("-m", "256", "-I", "16m")
    context = certificates.context()
    context.minimum_version = context.maximum_version = version
    value = os.urandom(10 << 20)
    with certificates.connect(program.port, context) as client:
        assert client.version() == {ssl.TLSVersion.TLSv1_2: "TLSv1.2", ssl.TLSVersion.TLSv1_3: "TLSv1.3"}[version]
        ask(client, b"set a 0 0 %d\r\n%b\r\n" % (len(value), value), b"STORED\r\n")
        client.sendall(b"get a a\r\nmn\r\n")
        time.sleep(0.3)  # its buffers are full now
        expected = (b"VALUE a 0 %d\r\n%b\r\n" % (len(value), value)) * 2 + b"END\r\nMN\r\n"
        assert ask(client, b"", b"MN\r\n") == expected


def test_many_requests_in_many_records_are_answered_in_order(certificates: Certificates, start: Start) -> None:
    with certificates.connect(start().port) as client:
        for number in range(0, 200, 20):
            client.sendall(
                b"".join(b"set k%d 0 0 3\r\n%03d\r\nget k%d\r\n" % (n, n, n) for n in range(number, number + 20))
            )
        client.sendall(b"mn\r\n")
        expected = b"".join(b"STORED\r\nVALUE k%d 0 3\r\n%03d\r\nEND\r\n" % (n, n) for n in range(200)) + b"MN\r\n"
        assert ask(client, b"", b"MN\r\n") == expected


def test_a_client_that_quits_is_told_that_nothing_was_cut_off(certificates: Certificates, start: Start) -> None:
    with certificates.connect(start().port) as client:
        client.sendall(b"quit\r\n")
        client.suppress_ragged_eofs = False  # type: ignore[attr-defined]
        assert client.recv(1) == b""


# Clients' certificates


@pytest.mark.parametrize(
    ("mode", "without", "own", "foreign"),
    [(0, False, False, False), (1, False, False, True), (2, True, False, True), (3, True, False, True)],
)
def test_a_mode_says_which_clients_are_refused(
    certificates: Certificates, other: Certificates, start: Start, mode: int, without: bool, own: bool, foreign: bool
) -> None:
    port = start(suboptions=f"ssl_verify_mode={mode},ssl_ca_cert={certificates.authority}").port
    stranger = certificates.context()
    stranger.load_cert_chain(other.client)
    assert refused(certificates, port) is without
    assert refused(certificates, port, certificates.context(with_client=True)) is own
    assert refused(certificates, port, stranger) is foreign


@pytest.mark.parametrize(
    ("lowest", "offered", "is_refused"),
    [
        (2, ssl.TLSVersion.TLSv1_2, False),
        (2, ssl.TLSVersion.TLSv1_3, False),
        (3, ssl.TLSVersion.TLSv1_2, True),
        (3, ssl.TLSVersion.TLSv1_3, False),
    ],
)
def test_versions_below_the_lowest_are_refused(
    certificates: Certificates, start: Start, lowest: int, offered: ssl.TLSVersion, is_refused: bool
) -> None:
    context = certificates.context()
    context.minimum_version = context.maximum_version = offered
    assert refused(certificates, start(suboptions=f"ssl_min_version={lowest}").port, context) is is_refused


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_session_is_resumed_and_not_counted_as_new(
    certificates: Certificates, start: Start, version: ssl.TLSVersion
) -> None:
    port = start(suboptions="ssl_session_cache").port
    context = certificates.context()
    context.minimum_version = context.maximum_version = version
    with certificates.connect(port, context) as client:
        assert not client.session_reused
        assert stats(client)["ssl_new_sessions"] == "1"
        session = client.session
        assert session is not None
    with certificates.connect(port, context, session=session) as client:
        assert client.session_reused
        assert stats(client)["ssl_new_sessions"] == "1"


def test_a_session_begun_without_a_certificate_is_not_resumed_where_one_is_required(
    certificates: Certificates, start: Start
) -> None:
    open_port, port = free_port(), free_port()
    addresses = f"btls:127.0.0.1:{open_port},mtls:127.0.0.1:{port}"
    start(listen=addresses, suboptions=f"ssl_ca_cert={certificates.authority}")
    context = certificates.context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with certificates.connect(open_port, context) as client:
        ask(client)
        session = client.session
    assert session is not None
    with pytest.raises(ssl.SSLError):
        certificates.connect(port, context, session=session)


# Handshakes that fail


def test_a_slow_handshake_costs_a_fast_client_nothing(certificates: Certificates, start: Start) -> None:
    port = start().port
    with ExitStack() as opened:
        for _ in range(50):
            half_open = opened.enter_context(socket.create_connection(("127.0.0.1", port)))
            half_open.sendall(START_HELLO)
        began = time.monotonic()
        with certificates.connect(port) as client:
            for _ in range(100):
                ask(client)
        assert time.monotonic() - began < 5


@pytest.mark.long
def test_a_handshake_that_never_ends_is_given_up_and_counted(certificates: Certificates, start: Start) -> None:
    program = start("-v")
    with socket.create_connection(("127.0.0.1", program.port), timeout=PATIENCE_SECONDS) as slow:
        slow.sendall(START_HELLO)
        with certificates.connect(program.port) as client:
            assert stats(client)["curr_connections"] == "2"
            began = time.monotonic()
            assert slow.recv(1) == b""
            assert 5 < time.monotonic() - began < 20
            told = stats(client)
    assert (told["curr_connections"], told["ssl_handshake_errors"]) == ("1", "1")
    program.wait_for(b"TLS handshake failed: it took too long")


def test_clients_that_leave_at_once_give_their_places_back(certificates: Certificates, start: Start) -> None:
    program = start("-c", "50")
    for _ in range(300):
        with socket.create_connection(("127.0.0.1", program.port)) as hasty:
            hasty.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    with certificates.connect(program.port) as client:
        poll_until(lambda: stats(client)["curr_connections"] == "1", "all are gone")


def test_a_client_that_is_slow_but_shakes_hands_is_served(certificates: Certificates, start: Start) -> None:
    port = start().port
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = certificates.context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS) as sock:
        while True:
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                data = outgoing.read()
                for start_ in range(0, len(data), 100):
                    sock.sendall(data[start_ : start_ + 100])
                    time.sleep(0.02)
                incoming.write(sock.recv(4096))
        client.write(b"mn\r\n")
        data = outgoing.read()
        for byte in data:
            sock.sendall(bytes([byte]))
        said = b""
        while not said:
            incoming.write(sock.recv(4096))
            try:
                said = client.read(100)
            except ssl.SSLWantReadError:
                pass
        assert said == b"MN\r\n"


@pytest.mark.parametrize(
    "said", [b"version\r\n", b"\x80\x0b" + bytes(22), b"\0" * 5000, b"\x16\x03\x01\xff\xff" + b"x" * 70000]
)
def test_what_is_no_handshake_is_refused_and_counted(certificates: Certificates, start: Start, said: bytes) -> None:
    program = start("-v")
    with socket.create_connection(("127.0.0.1", program.port), timeout=PATIENCE_SECONDS) as stranger:
        try:
            stranger.sendall(said)
            while piece := stranger.recv(4096):
                assert b"VERSION" not in piece
        except ConnectionError:
            pass
    with certificates.connect(program.port) as client:
        assert stats(client)["ssl_handshake_errors"] == "1"
        ask(client, b"stats reset\r\n", b"RESET\r\n")
        assert stats(client)["ssl_handshake_errors"] == "0"
    program.wait_for(b"TLS handshake failed: ")


def test_a_broken_record_after_the_handshake_is_counted(certificates: Certificates, start: Start) -> None:
    port = start().port
    client = certificates.connect(port)
    ask(client)
    raw = socket.socket(fileno=client.detach())
    with raw:
        raw.sendall(b"\x17\x03\x03\x00\x20" + b"x" * 32)
        raw.settimeout(PATIENCE_SECONDS)
        while raw.recv(4096):
            pass
    with certificates.connect(port) as asking:
        assert stats(asking)["ssl_proto_errors"] == "1"
        assert stats(asking)["ssl_handshake_errors"] == "0"


def test_a_tls_client_at_a_plain_address_gets_no_handshake(certificates: Certificates) -> None:
    with Program("-p", "0", "-l", "127.0.0.1") as program:
        with pytest.raises(OSError):
            certificates.connect(program.port)
        assert program.ask(b"mn\r\n") == b"MN\r\n"


# Certificates that are swapped


@pytest.fixture
def swappable(certificates: Certificates, tmp_path: Path) -> Certificates:
    """A copy that a test may overwrite."""
    directory = tmp_path / "swappable"
    shutil.copytree(certificates.chain.parent, directory)
    return Certificates(*(directory / path.name for path in (
        certificates.authority, certificates.chain, certificates.key, certificates.client)))  # fmt: skip


def replace(target: Certificates, source: Certificates) -> None:
    for name in ("chain", "key"):
        shutil.copy(getattr(source, name), getattr(target, name))


def refresh_by_command(program: Program, client: socket.socket) -> None:
    ask(client, b"refresh_certs\r\n", b"OK\r\n")


def refresh_by_signal(program: Program, client: socket.socket) -> None:
    os.kill(program.process.pid, signal.SIGHUP)
    program.wait_for(b"read the certificates again")


@pytest.mark.parametrize("refresh", [refresh_by_command, refresh_by_signal])
def test_new_certificates_are_for_new_connections_and_drop_none(
    swappable: Certificates, other: Certificates, refresh: Callable[[Program, socket.socket], None]
) -> None:
    with Program("-v", "-Z", "-p", "0", "-l", "127.0.0.1", "-o", swappable.suboptions) as program:
        with swappable.connect(program.port) as old:
            replace(swappable, other)
            time.sleep(1.1)
            assert int(stats(old)["time_since_server_cert_refresh"]) >= 1
            refresh(program, old)
            assert refused(swappable, program.port)
            with other.connect(program.port) as new:
                assert stats(new)["time_since_server_cert_refresh"] == "0"
            ask(old)


def test_a_broken_certificate_leaves_the_old_one_and_says_so(swappable: Certificates, other: Certificates) -> None:
    with Program("-v", "-Z", "-p", "0", "-l", "127.0.0.1", "-o", swappable.suboptions) as program:
        with swappable.connect(program.port) as client:
            shutil.copy(other.key, swappable.key)
            assert ask(client, b"refresh_certs\r\n", b"\r\n").startswith(b"Error validating the certificate: ")
            os.kill(program.process.pid, signal.SIGHUP)
            program.wait_for(b"the old certificates stay in use")
            ask(client)
        with swappable.connect(program.port) as late:
            ask(late)


def test_without_tls_there_is_nothing_to_refresh() -> None:
    with Program("-p", "0") as program:
        assert program.ask(b"refresh_certs\r\n") == b"Error TLS not enabled\r\n"


def test_certificates_can_be_swapped_while_clients_come_and_go(certificates: Certificates, start: Start) -> None:
    program = start("-t", "2")

    def come_and_go(number: int) -> None:
        for _ in range(20):
            with certificates.connect(program.port) as client:
                ask(client, b"refresh_certs\r\n" if number == 0 else b"mn\r\n", b"\r\n")

    with ThreadPoolExecutor(4) as clients:
        for done in [clients.submit(come_and_go, number) for number in range(4)]:
            done.result()


# What it is started with


@pytest.mark.parametrize(
    ("suboptions", "said"),
    [
        ("", "Error loading the certificate chain: (null)"),
        ("ssl_chain_cert=/none", "Error loading the certificate chain: /none"),
        ("{ours},ssl_key=/none", "Error loading the key: /none"),
        ("{ours},ssl_keyformat=2", "only PEM keys (ssl_keyformat=1) can be read"),
        ("{ours},ssl_key={other.key}", "Error validating the certificate: "),
        ("{ours},ssl_ca_cert=/none", "Error loading the CA certificate: /none"),
        ("{ours},ssl_ciphers=nonsense", "Error setting the provided cipher(s): nonsense"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line_with_memcacheds_status(
    certificates: Certificates, other: Certificates, suboptions: str, said: str
) -> None:
    text = suboptions.format(ours=certificates.suboptions, other=other)
    done = run_to_its_end("-Z", "-p", "0", *(["-o", text] if text else []))
    assert (done.returncode, len(done.stderr.splitlines())) == (64, 1)
    assert said in done.stderr


def test_a_key_may_be_in_the_file_of_the_certificates(certificates: Certificates) -> None:
    with Program("-Z", "-p", "0", "-l", "127.0.0.1", "-o", f"ssl_chain_cert={certificates.client}") as program:
        context = certificates.context()
        context.check_hostname = False
        with certificates.connect(program.port, context) as client:
            ask(client)


def test_ciphers_are_those_that_were_given(certificates: Certificates, start: Start) -> None:
    context = certificates.context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with certificates.connect(start(suboptions="ssl_ciphers=ECDHE-RSA-AES256-GCM-SHA384:"
                                    "ECDHE-ECDSA-AES256-GCM-SHA384").port, context) as client:  # fmt: skip
        cipher = client.cipher()
        assert cipher is not None
        assert cipher[0].endswith("AES256-GCM-SHA384")


def test_the_settings_tell_what_was_given(certificates: Certificates, start: Start) -> None:
    program = start(suboptions=f"ssl_verify_mode=1,ssl_ca_cert={certificates.authority},ssl_wbuf_size=64")
    with certificates.connect(program.port) as client:
        told = stats(client, b" settings")
    assert {name: value for name, value in told.items() if name.startswith("ssl_")} == {
        "ssl_enabled": "yes",
        "ssl_chain_cert": str(certificates.chain),
        "ssl_key": str(certificates.key),
        "ssl_verify_mode": "1",
        "ssl_keyformat": "1",
        "ssl_ciphers": "NULL",
        "ssl_ca_cert": str(certificates.authority),
        "ssl_wbuf_size": "65536",
        "ssl_session_cache": "no",
        "ssl_kernel_tls": "no",
        "ssl_min_version": "tlsv1.2",
    }


# Listening addresses and their TLS modes


def udp_answers(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect(("127.0.0.1", port))
        client.settimeout(2)
        try:
            client.send(b"\0\1\0\0\0\1\0\0mn\r\n")
            return client.recv(100).endswith(b"MN\r\n")
        except (ConnectionRefusedError, TimeoutError):
            return False


def test_all_addresses_serve_the_same_items(certificates: Certificates, tmp_path: Path) -> None:
    plain, tls, mutual, udp = (free_port() for _ in range(4))
    unix = str(tmp_path / "socket")
    listen = f"notls:127.0.0.1:{plain},127.0.0.1:{tls},mtls:[127.0.0.1]:{mutual},[::1]:{tls}"
    with Program("-Z", "-o", certificates.suboptions, "-o", f"ssl_ca_cert={certificates.authority}", "-l", listen, "-U",
                 str(udp), "-p", str(tls), "-s", unix):  # fmt: skip
        with certificates.connect(tls) as client:
            ask(client, b"set a 0 0 1\r\nx\r\n", b"STORED\r\n")
        assert refused(certificates, mutual)
        with ExitStack() as opened:
            clients: list[socket.socket] = [
                opened.enter_context(certificates.connect(mutual, certificates.context(with_client=True))),
                opened.enter_context(socket.create_connection(("127.0.0.1", plain), timeout=PATIENCE_SECONDS)),
                opened.enter_context(socket.socket(socket.AF_UNIX)),
            ]
            clients[2].connect(unix)
            for each in clients:
                assert ask(each, b"get a\r\n", b"END\r\n") == b"VALUE a 0 1\r\nx\r\nEND\r\n"
        assert udp_answers(udp)


@pytest.mark.parametrize(
    ("mode", "prefix", "answered"), [(0, "", True), (2, "", False), (0, "mtls:", False), (2, "notls:", True)]
)
def test_datagrams_are_not_answered_where_a_certificate_is_required(
    start: Start, mode: int, prefix: str, answered: bool
) -> None:
    port = free_port()
    program = start("-U", str(port), suboptions=f"ssl_verify_mode={mode}", listen=f"{prefix}127.0.0.1")
    assert udp_answers(port) is answered
    assert b"UDP is not encrypted" in program.said


@pytest.mark.parametrize("prefix", ["notls", "btls", "mtls"])
def test_a_tls_mode_needs_tls(prefix: str) -> None:
    done = run_to_its_end("-l", f"{prefix}:127.0.0.1:0")
    assert (done.returncode, done.stderr) == (
        64,
        f"memcache-kv: '{prefix}' option is valid only when SSL is enabled\n",
    )


def test_connections_over_tls_are_closed_when_idle_and_drained_at_the_end(
    certificates: Certificates, start: Start
) -> None:
    program = start("-o", "idle_timeout=1")
    with certificates.connect(program.port) as idle:
        ask(idle)
        assert idle.recv(1) == b""
    with certificates.connect(program.port) as client:
        client.sendall(b"mn\r\n" * 100)
        time.sleep(0.2)
        assert program.end() == 0
        assert ask(client, b"", b"MN\r\n" * 100) == b"MN\r\n" * 100


def test_a_key_that_everybody_can_read_is_warned_of(swappable: Certificates) -> None:
    swappable.key.chmod(0o644)
    with Program("-Z", "-p", "0", "-l", "127.0.0.1", "-o", swappable.suboptions) as program:
        poll_until(lambda: f"every user can read {swappable.key}".encode() in program.said, "it is said")
