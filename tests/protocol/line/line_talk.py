"""A conversation in the line protocol, and the whole replies to its requests."""

from collections.abc import Callable

from memcache_kv.protocol.context import Context
from memcache_kv.protocol.line.framing import LineProtocol
from tests.protocol.case import Case
from tests.protocol.context_factory import Surroundings

WORD = b"1 to 256 printable ASCII characters without white space"
BAD_KEY = b"ERROR bad key; allowed: " + WORD + b"\n"
BAD_VALUE = b"ERROR bad value; allowed: " + WORD + b"\n"
BAD_TTL = b"ERROR bad ttl; allowed: seconds from 0 to 2147483647, 0 for no limit\n"
TOO_LONG = b"ERROR line too long; allowed: 1024 bytes\n"
FORMS = b"PUT key value [ttl], GET key, DELETE key, EXISTS key, QUIT\n"
UNKNOWN = b"ERROR unknown command; allowed: " + FORMS
EMPTY = b"ERROR empty line; allowed: " + FORMS
STORED, DELETED, NOT_FOUND = b"OK stored\n", b"OK deleted\n", b"ERROR key not found\n"

CASES = [
    Case("a value comes back", b"PUT k v\nGET k\n", STORED + b"OK v\n"),
    Case("a value is replaced", b"PUT k v\nPUT k w\nGET k\n", STORED * 2 + b"OK w\n"),
    Case("a missing key", b"GET k\n", NOT_FOUND),
    Case("delete", b"PUT k v\nDELETE k\nGET k\nDELETE k\n", STORED + DELETED + NOT_FOUND * 2),
    Case("exists", b"EXISTS k\nPUT k v\nEXISTS k\n", b"OK 0\n" + STORED + b"OK 1\n"),
    Case("all of printable ASCII", b'PUT !"#$%%&\'()*+,-./:;<=>?@[\\]^_`{|}~ ~!\nEXISTS a\n', STORED + b"OK 0\n"),
    Case("the longest words", b"PUT %b %b\nGET %b\n" % (b"k" * 256, b"v" * 256, b"k" * 256),
         STORED + b"OK " + b"v" * 256 + b"\n"),
    Case("the longest line", b"PUT %b %b 2147483647\nEXISTS %b\n" % (b"k" * 256, b"v" * 256, b"k" * 256),
         STORED + b"OK 1\n"),
    Case("a key that is too long", b"GET %b\nPUT %b v\nGET a\n" % (b"k" * 257, b"k" * 257), BAD_KEY * 2 + NOT_FOUND),
    Case("a value that is too long", b"PUT k %b\nGET k\n" % (b"v" * 257), BAD_VALUE + NOT_FOUND),
    Case("a ttl", b"PUT k v 10\nGET k\n", STORED + b"OK v\n"),
    Case("no ttl", b"PUT k v 0\nGET k\n", STORED + b"OK v\n"),
    Case("the longest ttl", b"PUT k v 2147483647\nGET k\n", STORED + b"OK v\n"),
    Case("a ttl with zeros before it", b"PUT k v 0000000001\nGET k\n", STORED + b"OK v\n"),
    *[Case(f"ttl {ttl!r}", b"PUT k v " + ttl + b"\nGET k\n", BAD_TTL + NOT_FOUND)
      for ttl in (b"2147483648", b"-1", b"+1", b"x", b"1.5", b"00000000001", b"99999999999999999999")],
    Case("a control character in a key", b"GET k\x01\nGET \x7f\n", BAD_KEY * 2),
    Case("no ASCII", b"GET \xc3\xa9\nPUT k \xc3\xa9\n", BAD_KEY + BAD_VALUE),
    Case("a tab", b"GET a\tb\nPUT k a\tb\nPUT\tk v\n", BAD_KEY + BAD_VALUE + UNKNOWN),
    Case("a carriage return in a line", b"GET a\rb\nGET \r\r\n", BAD_KEY + BAD_KEY.replace(b"\n", b"\r\n")),
    Case("a zero byte", b"GET \0\n", BAD_KEY),
    Case("further spaces", b"  PUT  k   v  \nGET k \n", STORED + b"OK v\n"),
    Case("an empty line", b"\n   \n\r\n", EMPTY * 2 + EMPTY.replace(b"\n", b"\r\n")),
    Case("an unknown command", b"get k\nSET k v\nPUTT k v\n\x80\x01\n", UNKNOWN * 4),
    Case("too few words", b"GET\nPUT k\nDELETE\nEXISTS\n",
         b"ERROR wrong number of words; allowed: GET key\n"
         b"ERROR wrong number of words; allowed: PUT key value [ttl]\n"
         b"ERROR wrong number of words; allowed: DELETE key\n"
         b"ERROR wrong number of words; allowed: EXISTS key\n"),
    Case("too many words", b"GET k l\nPUT k v 0 x\nDELETE k l\nEXISTS k l\nQUIT k\n",
         b"ERROR wrong number of words; allowed: GET key\n"
         b"ERROR wrong number of words; allowed: PUT key value [ttl]\n"
         b"ERROR wrong number of words; allowed: DELETE key\n"
         b"ERROR wrong number of words; allowed: EXISTS key\n"
         b"ERROR wrong number of words; allowed: QUIT\n"),
    Case("the longest line of all", b"x" * 1024 + b"\n", UNKNOWN),
    Case("a longer line", b"x" * 1025 + b"\nEXISTS k\n", TOO_LONG + b"OK 0\n"),
    Case("a longer line that ends in two bytes", b"x" * 1024 + b"\r\n", TOO_LONG.replace(b"\n", b"\r\n")),
    Case("a much longer line", b"PUT k " + b"x" * 20_000 + b"\nPUT k v\n", TOO_LONG + STORED),
    Case("both line ends", b"PUT k v\r\nGET k\nGET k\r\n", b"OK stored\r\nOK v\nOK v\r\n"),
    Case("quit", b"PUT k v\nQUIT\nGET k\n", STORED),
]  # fmt: skip


class LineTalk:
    """The line protocol driven as a worker drives it: fed, sent from, resumed while it is paused."""

    def __init__(
        self, around: Surroundings | None = None, make: Callable[[Context, int], LineProtocol] = LineProtocol
    ) -> None:
        self.around = around if around is not None else Surroundings()
        self.protocol = make(self.around.context, 30)

    def feed(self, *pieces: bytes) -> bytes:
        """Give it bytes in several reads; return what it answers."""
        return b"".join([self._feed(piece) for piece in pieces if piece])

    def _feed(self, data: bytes) -> bytes:
        protocol = self.protocol
        if protocol.closing:
            return b""
        protocol.receive(data)
        while protocol.paused and not protocol.closing:
            protocol.resume()
        reply = b"".join(protocol.out)
        protocol.out.clear()
        return reply
