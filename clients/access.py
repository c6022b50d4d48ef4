"""How a server is reached: its address, with TLS and a login where the server wants them."""

from __future__ import annotations

import argparse
import getpass
import os
import socket
import ssl
from dataclasses import dataclass, field

from clients.address import Address

PASSWORD_VARIABLE = "MEMCACHED_PASSWORD"

RECEIVE_BYTES = 4096


class AccessError(OSError):
    """The server answers, but does not let us in; the message says why."""


@dataclass(frozen=True)
class Login:
    """A user of the server's file of users."""

    user: str
    password: str = field(repr=False)

    def request(self) -> bytes:
        """Spell the login as the text protocol wants it: a `set` of user and password under any key."""
        token = f"{self.user} {self.password}".encode()
        return b"set login 0 0 %d\r\n%b\r\n" % (len(token), token)


@dataclass(frozen=True)
class Access:
    """An address, and what it takes to be let in there."""

    address: Address
    tls: ssl.SSLContext | None = None
    login: Login | None = None

    def connect(self, timeout_seconds: float) -> socket.socket:
        """Open a connection, encrypt it and log in; raise OSError when that fails."""
        connection = self.address.connect(timeout_seconds)
        try:
            if self.tls is not None:
                connection = self.tls.wrap_socket(connection, server_hostname=self.address.host)
            if self.login is not None:
                _log_in(connection, self.login)
        except ssl.SSLError as error:
            connection.close()
            raise AccessError(_tls_failure(error)) from error
        except BaseException:
            connection.close()
            raise
        return connection


def _log_in(connection: socket.socket, login: Login) -> None:
    """Send a login and wait until it is accepted; raise AccessError when it is not."""
    connection.sendall(login.request())
    reply = b""
    while not reply.endswith(b"\n"):
        piece = connection.recv(RECEIVE_BYTES)
        if not piece:
            break
        reply += piece
    if reply != b"STORED\r\n":
        said = reply.decode("utf-8", "backslashreplace").strip() or "the server closed the connection"
        raise AccessError(f"the login of {login.user} was refused ({said})")


def _tls_failure(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message}); --ca names the authority to trust"
    return f"there is no TLS connection to be had ({error.reason or error})"


def is_stale(connection: socket.socket) -> bool:
    """Tell whether a connection on which no reply is awaited was closed, or brings what nobody asked for."""
    timeout_seconds = connection.gettimeout()
    connection.setblocking(False)
    try:
        connection.recv(1)
    except (BlockingIOError, ssl.SSLWantReadError):
        return False
    except OSError:
        return True
    finally:
        connection.settimeout(timeout_seconds)
    return True


def add_access_options(parser: argparse.ArgumentParser) -> None:
    """Give a parser the options for TLS and for a login."""
    parser.add_argument("--tls", action="store_true", help="encrypt the connection (implied by --ca and --cert)")
    parser.add_argument("--ca", metavar="FILE", help="trust the authorities in this PEM file (default: the system's)")
    parser.add_argument("--cert", metavar="FILE", help="show this certificate, a PEM file, to the server")
    parser.add_argument("--key", metavar="FILE", help="the certificate's key, unless it is in the same file")
    parser.add_argument(
        "--user",
        metavar="NAME",
        help=f"log in as this user; the password is in the variable {PASSWORD_VARIABLE}, or asked for on the terminal",
    )


def access_from(parser: argparse.ArgumentParser, options: argparse.Namespace, address: Address) -> Access:
    """Put the options together; end the program with status 2 when they do not fit."""
    if options.key and not options.cert:
        parser.error("--key needs --cert")
    tls = _tls_context(parser, options)
    if tls is not None and address.path:
        parser.error("--tls: a unix socket is never encrypted; leave --tls, --ca and --cert out")
    login = None
    if options.user is not None:
        if not options.user or " " in options.user:
            parser.error("--user: a user's name is not empty and has no blanks")
        login = Login(options.user, _password(parser, options.user))
    return Access(address, tls, login)


def _tls_context(parser: argparse.ArgumentParser, options: argparse.Namespace) -> ssl.SSLContext | None:
    if not (options.tls or options.ca or options.cert):
        return None
    try:
        context = ssl.create_default_context(cafile=options.ca)
        if options.cert:
            context.load_cert_chain(options.cert, options.key)
    except OSError as error:  # also ssl.SSLError
        parser.error(f"--ca, --cert, --key: {error.strerror or error}")
    return context


def _password(parser: argparse.ArgumentParser, user: str) -> str:
    password = os.environ.get(PASSWORD_VARIABLE)
    if password is not None:
        return password
    try:
        with open("/dev/tty"):
            return getpass.getpass(f"password of {user}: ")
    except OSError:
        parser.error(f"--user: set {PASSWORD_VARIABLE} to the password, as there is no terminal to ask on")
    except (EOFError, KeyboardInterrupt):
        parser.error("--user: no password was typed")
