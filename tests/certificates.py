"""Certificates for tests, made when they are needed."""

import socket
import ssl
from dataclasses import dataclass
from pathlib import Path

import trustme

from tests.program import PATIENCE_SECONDS


@dataclass(frozen=True)
class Certificates:
    """One authority with a certificate for a server and one for a client, as files."""

    authority: Path
    chain: Path
    key: Path
    client: Path

    @property
    def suboptions(self) -> str:
        """What -o needs for the server's certificate."""
        return f"ssl_chain_cert={self.chain},ssl_key={self.key}"

    def context(self, with_client: bool = False) -> ssl.SSLContext:
        """What a client needs that trusts the authority, with a certificate of its own or without."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.authority)
        if with_client:
            context.load_cert_chain(self.client)
        return context

    def connect(
        self, port: int, context: ssl.SSLContext | None = None, session: ssl.SSLSession | None = None
    ) -> ssl.SSLSocket:
        """Connect, and shake hands."""
        sock = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS)
        try:
            return (context or self.context()).wrap_socket(sock, server_hostname="localhost", session=session)
        except BaseException:
            sock.close()
            raise


def make_certificates(directory: Path) -> Certificates:
    """Make an authority and its certificates in a directory."""
    directory.mkdir(exist_ok=True)
    made = Certificates(*(directory / name for name in ("authority.pem", "chain.pem", "key.pem", "client.pem")))
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(made.authority))
    server = authority.issue_cert("localhost", "127.0.0.1")
    made.chain.write_bytes(b"".join(blob.bytes() for blob in server.cert_chain_pems))
    server.private_key_pem.write_to_path(str(made.key))
    authority.issue_cert("client@example.org").private_key_and_cert_chain_pem.write_to_path(str(made.client))
    made.key.chmod(0o600)
    return made


def ask(client: socket.socket, request: bytes = b"mn\r\n", end: bytes = b"MN\r\n") -> bytes:
    """Send a request and read up to the end of its reply."""
    client.sendall(request)
    said = b""
    while not said.endswith(end):
        piece = client.recv(1 << 16)
        assert piece, f"the server closed after {said!r}"
        said += piece
    return said


def stats(client: socket.socket, what: bytes = b"") -> dict[str, str]:
    """Ask for statistics."""
    lines = ask(client, b"stats" + what + b"\r\n", b"END\r\n").decode().splitlines()
    return dict(line.split(" ", 2)[1:] for line in lines if line.startswith("STAT "))
