"""Certificates and streams without a server: what blocks, what is raised, and what a failed reload leaves."""

import contextlib
import os
import shutil
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from memcache_kv.config.memcached_options import TlsOptions
from memcache_kv.errors import ConfigError
from memcache_kv.server import tls as tls_module
from memcache_kv.server.poller import READABLE, WRITABLE
from memcache_kv.server.tls import RECORD_BYTES, Tls, TlsStream
from tests.certificates import Certificates, make_certificates


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def options(certificates: Certificates, **more: object) -> TlsOptions:
    return TlsOptions(str(certificates.chain), str(certificates.key), **more)  # type: ignore[arg-type]


class Pair:
    """The two ends of a connection, neither of which blocks."""

    def __init__(
        self, certificates: Certificates, mode: ssl.VerifyMode = ssl.CERT_NONE, tls: Tls | None = None
    ) -> None:
        theirs, ours = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        self.ours = (tls or Tls(options(certificates))).wrap(ours, mode)
        self.stream = TlsStream(self.ours)
        self.client = certificates.context().wrap_socket(
            theirs, server_hostname="localhost", do_handshake_on_connect=False
        )

    def handshake(self) -> "Pair":
        client_done = server_done = False
        while not (client_done and server_done):
            try:
                self.client.do_handshake()
                client_done = True
            except ssl.SSLWantReadError:
                pass
            server_done = server_done or self.stream.continue_handshake()
        return self

    def close(self) -> None:
        self.client.close()
        self.ours.close()


@pytest.fixture
def pair(certificates: Certificates) -> Iterator[Pair]:
    made = Pair(certificates)
    yield made
    made.close()


def test_a_handshake_waits_for_the_client_without_blocking(pair: Pair) -> None:
    assert not pair.stream.continue_handshake()
    assert pair.stream.wants == READABLE
    pair.handshake()
    assert not pair.stream.resumed


def test_a_read_of_nothing_would_block(pair: Pair) -> None:
    with pytest.raises(BlockingIOError):
        pair.handshake().stream.read(100)
    assert pair.stream.wants == READABLE


@pytest.mark.parametrize("size", [1, 100, RECORD_BYTES])
def test_a_read_leaves_nothing_inside_that_no_poller_tells_of(pair: Pair, size: int) -> None:
    pair.handshake().client.send(b"x" * RECORD_BYTES)
    assert len(pair.stream.read(size)) == RECORD_BYTES
    assert pair.ours.pending() == 0


def test_the_end_is_an_empty_read(pair: Pair) -> None:
    pair.handshake()
    with pytest.raises(ssl.SSLWantReadError):
        pair.client.unwrap()  # says goodbye, and waits for ours
    assert pair.stream.read(100) == b""


def test_an_end_without_a_goodbye_is_an_empty_read_or_a_broken_connection(pair: Pair) -> None:
    pair.handshake().client.close()
    with contextlib.suppress(ConnectionError):  # some releases of OpenSSL send something first, which fails
        assert pair.stream.read(100) == b""


def test_what_the_socket_does_not_take_is_sent_later_in_full(pair: Pair) -> None:
    data = bytes(range(256)) * 8192
    pair.handshake()
    sent = pair.stream.write(data)
    assert 0 < sent < len(data)
    with pytest.raises(BlockingIOError):
        pair.stream.write(memoryview(data)[sent:])
    got = b""
    while len(got) < len(data):
        try:
            got += pair.client.recv(1 << 16)
        except ssl.SSLWantReadError:
            sent += pair.stream.write(memoryview(data)[sent:])
    assert (got, sent) == (data, len(data))


def test_a_read_that_has_to_answer_first_waits_for_room() -> None:

    class Full:
        """A socket under TLS whose library must send before it can read."""

        def recv(self, size: int) -> bytes:
            raise ssl.SSLWantWriteError

    stream = TlsStream(Full())  # type: ignore[arg-type]
    with pytest.raises(BlockingIOError):
        stream.read(100)
    assert stream.wants == WRITABLE


def test_a_goodbye_is_said_and_never_raises(pair: Pair) -> None:
    pair.handshake().stream.say_goodbye()
    pair.client.suppress_ragged_eofs = False  # type: ignore[attr-defined]
    assert pair.client.recv(1) == b""
    pair.client.close()
    pair.stream.say_goodbye()


def test_a_broken_record_is_an_error(pair: Pair) -> None:
    pair.handshake()
    raw = socket.socket(fileno=pair.client.detach())
    with raw:
        raw.send(b"\x17\x03\x03\x00\x20" + b"x" * 32)
        with pytest.raises(ssl.SSLError):
            pair.stream.read(100)


def test_a_client_that_has_left_is_an_os_error(certificates: Certificates) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with socket.create_connection(listener.getsockname()) as client:
            served, _ = listener.accept()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        with served, pytest.raises(OSError):
            Tls(options(certificates)).wrap(served, ssl.CERT_NONE)


def test_a_reload_that_fails_leaves_the_certificates(certificates: Certificates, tmp_path: Path) -> None:
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    shutil.copy(certificates.chain, chain)
    shutil.copy(certificates.key, key)
    tls = Tls(TlsOptions(str(chain), str(key)))
    key.write_text("nothing")
    with pytest.raises(ConfigError, match="Error validating the certificate"):
        tls.reload()
    for mode in (ssl.CERT_NONE, ssl.CERT_OPTIONAL):
        pair = Pair(certificates, mode, tls).handshake()
        assert pair.client.getpeercert(binary_form=True) == certificate_in(certificates.chain)
        pair.close()


def certificate_in(path: Path) -> bytes:
    """The first certificate of a file."""
    first, end, _ = path.read_text().partition("-----END CERTIFICATE-----")
    return ssl.PEM_cert_to_DER_cert(first + end)


def test_an_encrypted_key_is_refused_and_not_asked_for(certificates: Certificates, tmp_path: Path) -> None:
    key = serialization.load_pem_private_key(certificates.key.read_bytes(), None)
    path = tmp_path / "key.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(ConfigError, match="Error validating the certificate"):
        Tls(TlsOptions(str(certificates.chain), str(path)))


def test_the_kernel_takes_over_where_python_can_ask_it_to(certificates: Certificates) -> None:
    given = options(certificates, ssl_kernel_tls=True)
    if hasattr(ssl, "OP_ENABLE_KTLS"):
        pair = Pair(certificates, tls=Tls(given))
        assert pair.ours.context.options & ssl.OP_ENABLE_KTLS
        pair.close()
    else:
        with pytest.raises(ConfigError, match="Kernel TLS offload is not available"):
            Tls(given)


def test_counts_are_kept_until_they_are_reset(certificates: Certificates) -> None:
    tls = Tls(options(certificates))
    for name in ("handshake_errors", "proto_errors", "proto_errors", "new_sessions", "resumed_sessions"):
        tls.count(name)
    assert (tls.handshake_errors, tls.proto_errors, tls.new_sessions, tls.resumed_sessions) == (1, 2, 1, 1)
    tls.reset()
    assert (tls.handshake_errors, tls.proto_errors, tls.new_sessions, tls.resumed_sessions) == (0, 0, 0, 0)


def age(path: Path) -> None:
    """Let a file look as if it was written a minute ago, so far as that can be set."""
    stamp = path.stat().st_mtime - 60
    os.utime(path, (stamp, stamp))


def test_files_that_have_not_changed_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_certificates(tmp_path)
    monkeypatch.setattr(tls_module, "SURE_AFTER_NS", -(10**18))
    tls = Tls(options(made))
    for _ in range(100):
        tls.reload()
    assert tls.loads == 1
    age(made.chain)
    tls.reload()
    tls.reload()
    assert tls.loads == 2


def test_files_that_were_just_written_are_read_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls_module, "SURE_AFTER_NS", 10**18)
    tls = Tls(options(make_certificates(tmp_path)))
    tls.reload()
    assert tls.loads == 2
