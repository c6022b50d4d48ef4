"""Requests of the classic text protocol, each with its whole reply from an empty store."""

from memcache_kv.version import PROTOCOL_VERSION
from tests.protocol.case import Case
from tests.protocol.meta.meta_cases import META

BAD = b"CLIENT_ERROR bad command line format\r\n"
BAD_DELTA = b"CLIENT_ERROR invalid numeric delta argument\r\n"
BAD_EXPTIME = b"CLIENT_ERROR invalid exptime argument\r\n"
BAD_CHUNK = b"CLIENT_ERROR bad data chunk\r\n"
TOO_LARGE = b"SERVER_ERROR object too large for cache\r\n"
STORED = b"STORED\r\n"
END = b"END\r\n"
VERSION = b"VERSION " + PROTOCOL_VERSION.encode() + b"\r\n"
K250 = b"k" * 250
K251 = b"k" * 251
SET = b"set a 5 0 3\r\nfoo\r\n"
SET_N = b"set n 0 0 2\r\n10\r\n"
FOUND = b"VALUE a 5 3\r\nfoo\r\nEND\r\n"


def storage(line: bytes, data: bytes = b"foo") -> bytes:
    return line + b"\r\n" + data + b"\r\n"


STORAGE = [
    Case("set", SET, STORED),
    Case("set and get", SET + b"get a\r\n", STORED + FOUND),
    Case("an empty value", storage(b"set a 0 0 0", b"") + b"get a\r\n", STORED + b"VALUE a 0 0\r\n\r\nEND\r\n"),
    Case("set over", SET + storage(b"set a 0 0 1", b"x") + b"get a\r\n", STORED * 2 + b"VALUE a 0 1\r\nx\r\nEND\r\n"),
    Case("a value of line ends", storage(b"set a 0 0 4", b"\r\n\r\n") + b"get a\r\n",
         STORED + b"VALUE a 0 4\r\n\r\n\r\n\r\nEND\r\n"),
    Case("a value that looks like commands", storage(b"set a 0 0 16", b"get b\r\nversion\r\n") + b"get a\r\n",
         STORED + b"VALUE a 0 16\r\nget b\r\nversion\r\n\r\nEND\r\n"),
    Case("the longest key", storage(b"set " + K250 + b" 0 0 3") + b"get " + K250 + b"\r\n",
         STORED + b"VALUE " + K250 + b" 0 3\r\nfoo\r\nEND\r\n"),
    Case("a key that is not text", storage(b"set \xff\xfe\x00 0 0 3") + b"get \xff\xfe\x00\r\n",
         STORED + b"VALUE \xff\xfe\x00 0 3\r\nfoo\r\nEND\r\n"),
    Case("the largest flags", storage(b"set a 4294967295 0 3") + b"get a\r\n",
         STORED + b"VALUE a 4294967295 3\r\nfoo\r\nEND\r\n"),
    Case("words further apart", storage(b"set  a   5  0 3") + b"get a\r\n", STORED + FOUND),
    Case("bare line feeds after the lines", b"set a 5 0 3\nfoo\r\nget a\n", STORED + FOUND),
    Case("words behind the last", storage(b"set a 5 0 3 b c") + b"get a\r\n", STORED + FOUND),
    Case("a key named noreply", storage(b"set noreply 5 0 3") + b"get noreply\r\n",
         STORED + b"VALUE noreply 5 3\r\nfoo\r\nEND\r\n"),
    Case("add to nothing", storage(b"add a 5 0 3") + b"get a\r\n", STORED + FOUND),
    Case("replace something", storage(b"set a 0 0 1", b"x") + storage(b"replace a 5 0 3") + b"get a\r\n",
         STORED * 2 + FOUND),
    Case("append", SET + storage(b"append a 9 0 3", b"bar") + b"get a\r\n",
         STORED * 2 + b"VALUE a 5 6\r\nfoobar\r\nEND\r\n"),
    Case("prepend", SET + storage(b"prepend a 9 0 3", b"bar") + b"get a\r\n",
         STORED * 2 + b"VALUE a 5 6\r\nbarfoo\r\nEND\r\n"),
    Case("a negative exptime", storage(b"set a 0 -1 3") + b"get a\r\n", STORED + END),
    Case("a lone long data block", storage(b"set a 0 0 3", b"foobar"), BAD_CHUNK + BAD),
    Case("a long data block keeps the old value", SET + storage(b"set a 0 0 1", b"xyz") + b"get a\r\n",
         STORED + BAD_CHUNK + BAD + FOUND),
]  # fmt: skip

CAS = [
    Case("gets gives ids", SET + b"gets a\r\n", STORED + b"VALUE a 5 3 1\r\nfoo\r\nEND\r\n"),
    Case("gets again gives the same", SET + b"gets a\r\ngets a\r\n",
         STORED + b"VALUE a 5 3 1\r\nfoo\r\nEND\r\n" * 2),
    Case("cas with the present id", SET + b"gets a\r\n" + storage(b"cas a 0 0 1 1", b"x") + b"get a\r\n",
         STORED + b"VALUE a 5 3 1\r\nfoo\r\nEND\r\n" + STORED + b"VALUE a 0 1\r\nx\r\nEND\r\n"),
    Case("cas twice", SET + b"gets a\r\n" + storage(b"cas a 0 0 1 1", b"x") + storage(b"cas a 0 0 1 1", b"y"),
         STORED + b"VALUE a 5 3 1\r\nfoo\r\nEND\r\n" + STORED + b"EXISTS\r\n"),
    Case("cas without an id", storage(b"cas a 0 0 3"), BAD),
    Case("cas with a word for an id", storage(b"cas a 0 0 3 x"), BAD),
    Case("cas beyond 64 bits", storage(b"cas a 0 0 3 18446744073709551616"), BAD),
    Case("cas noreply", storage(b"cas a 0 0 3 1 noreply"), b""),
]  # fmt: skip

RETRIEVAL = [
    Case("get nothing", b"get a\r\n", END),
    Case("get several", SET + SET_N + b"get n b a\r\n", STORED * 2 + b"VALUE n 0 2\r\n10\r\n" + FOUND),
    Case("get one twice", SET + b"get a a\r\n", STORED + FOUND[:-5] + FOUND),
    Case("get with spaces around", SET + b"get  a  \r\n", STORED + FOUND),
    Case("gets nothing", b"gets a b\r\n", END),
    Case("get without a key", b"get\r\n", BAD),
    Case("get with a space for a key", b"get \r\n", BAD),
    Case("gets without a key", b"gets\r\n", BAD),
    Case("get a key too long", b"get " + K251 + b"\r\n", BAD),
    Case("gets a key too long after a good one", b"gets a " + K251 + b"\r\n", BAD),
    Case("gat", SET + b"gat 100 a b\r\n", STORED + FOUND),
    Case("gats", SET + b"gats 100 a\r\n", STORED + b"VALUE a 5 3 1\r\nfoo\r\nEND\r\n"),
    Case("gat with the past", SET + b"gat -1 a\r\nget a\r\n", STORED + FOUND + END),
    Case("gat nothing", b"gat 0 a\r\n", END),
    Case("gat without a key", b"gat 0\r\n", BAD),
    Case("gats without anything", b"gats\r\n", BAD),
    Case("gat with a word for a time", b"gat x a\r\n", BAD_EXPTIME),
    Case("gat beyond 32 bits", b"gat 99999999999 a\r\n", BAD_EXPTIME),
    Case("gat a key too long", b"gat 0 " + K251 + b"\r\n", BAD),
    Case("gets with silence asked for still answers", SET + b"gets a noreply\r\n",
         STORED + b"VALUE a 5 3 1\r\nfoo\r\nEND\r\n"),
]  # fmt: skip

CHANGES = [
    Case("delete", SET + b"delete a\r\nget a\r\n", STORED + b"DELETED\r\n" + END),
    Case("delete with a time", SET + b"delete a 0\r\n", STORED + b"DELETED\r\n"),
    Case("delete with a time, silently", SET + b"delete a 0 noreply\r\nget a\r\n", STORED + END),
    Case("delete silently", SET + b"delete a noreply\r\nget a\r\n", STORED + END),
    Case("delete without a key", b"delete\r\n", BAD),
    Case("delete a key too long", b"delete " + K251 + b"\r\n", BAD),
    Case("incr", SET_N + b"incr n 5\r\nget n\r\n", STORED + b"15\r\nVALUE n 0 2\r\n15\r\nEND\r\n"),
    Case("decr", SET_N + b"decr n 1\r\nget n\r\n", STORED + b"9\r\nVALUE n 0 2\r\n9 \r\nEND\r\n"),
    Case("incr by a word", SET_N + b"incr n x\r\n", STORED + BAD_DELTA),
    Case("incr by a negative", SET_N + b"incr n -1\r\n", STORED + BAD_DELTA),
    Case("decr beyond 64 bits", SET_N + b"decr n 18446744073709551616\r\n", STORED + BAD_DELTA),
    Case("incr silently", SET_N + b"incr n 5 noreply\r\nget n\r\n", STORED + b"VALUE n 0 2\r\n15\r\nEND\r\n"),
    Case("incr without a number", b"incr n\r\n", BAD),
    Case("incr a key too long", b"incr " + K251 + b" 1\r\n", BAD),
    Case("touch", SET + b"touch a 100\r\nget a\r\n", STORED + b"TOUCHED\r\n" + FOUND),
    Case("touch with the past", SET + b"touch a -1\r\nget a\r\n", STORED + b"TOUCHED\r\n" + END),
    Case("touch silently", SET + b"touch a -1 noreply\r\nget a\r\n", STORED + END),
    Case("touch without a time", b"touch a\r\n", BAD),
    Case("touch with a word for a time", b"touch a x\r\n", BAD_EXPTIME),
]

SILENCE = [
    Case("set silently", storage(b"set a 5 0 3 noreply") + b"get a\r\n", FOUND),
    Case("add silently in vain", SET + storage(b"add a 0 0 1 noreply", b"x") + b"get a\r\n", STORED + FOUND),
    Case("replace silently in vain", storage(b"replace a 0 0 1 noreply", b"x"), b""),
    Case("append silently", SET + storage(b"append a 0 0 1 noreply", b"x") + b"get a\r\n",
         STORED + b"VALUE a 5 4\r\nfoox\r\nEND\r\n"),
    Case("a bad data chunk, silently", storage(b"set a 0 0 1 noreply", b"x?") + b"foo\r\n", BAD + b"ERROR\r\n"),
    Case("flags refused, silently", storage(b"set a x 0 3 noreply"), b""),
    Case("a key too long, silently", storage(b"set " + K251 + b" 0 0 3 noreply"), b""),
    Case("an unknown command, silently", b"foo noreply\r\n", b""),
    Case("silence ends with its request", storage(b"set a 5 0 3 noreply") + b"delete b\r\n", b"NOT_FOUND\r\n"),
    Case("verbosity silently", b"verbosity 0 noreply\r\n", b""),
    Case("flush silently", SET + b"flush_all noreply\r\nget a\r\n", STORED + END),
    Case("flush with a time, silently", SET + b"flush_all 0 noreply\r\nget a\r\n", STORED + END),
]  # fmt: skip

REFUSED_STORAGE = [
    Case("too few words", b"set a 0 0\r\n", BAD),
    Case("no key", b"set  0 0 3\r\n", BAD),
    Case("nothing but the command", b"set\r\n", BAD),
    Case("a negative length", b"set a 0 0 -1\r\n", BAD),
    Case("a word for a length", b"set a 0 0 x\r\n", BAD),
    Case("a length with a plus", b"set a 0 0 +3\r\n", BAD),
    Case("a length beyond 32 bits", b"set a 0 0 4294967296\r\n", BAD),
    Case("negative flags", storage(b"set a -1 0 3"), BAD),
    Case("words for flags", storage(b"set a x 0 3"), BAD),
    Case("flags beyond 64 bits", storage(b"set a 18446744073709551616 0 3"), BAD),
    Case("a word for an exptime", storage(b"set a 0 x 3"), BAD),
    Case("a fraction for an exptime", storage(b"set a 0 1.5 3"), BAD),
    Case("a key too long", storage(b"set " + K251 + b" 0 0 3"), BAD),
    Case("a refused command's data is no command", b"set a x 0 9\r\nversion\r\n\r\nversion\r\n", BAD + VERSION),
    Case("a refused set keeps the old value", SET + storage(b"set a x 0 3", b"bar") + b"get a\r\n",
         STORED + BAD + FOUND),
    Case("too large", storage(b"set a 0 0 2000000", b"x" * 2_000_000), TOO_LARGE),
    Case("too large removes the old value", SET + storage(b"set a 0 0 1100000", b"x" * 1_100_000) + b"get a\r\n",
         STORED + TOO_LARGE + END),
    Case("too large for add keeps it", SET + storage(b"add a 0 0 1100000", b"x" * 1_100_000) + b"get a\r\n",
         STORED + TOO_LARGE + FOUND),
]  # fmt: skip

SERVER = [
    Case("version", b"version\r\n", VERSION),
    Case("mn", b"mn\r\n", b"MN\r\n"),
    Case("version with a word", b"version x\r\n", VERSION),
    Case("flush_all", SET + b"flush_all\r\nget a\r\n", STORED + b"OK\r\n" + END),
    Case("flush_all 0", SET + b"flush_all 0\r\nget a\r\n", STORED + b"OK\r\n" + END),
    Case("flush_all later", SET + b"flush_all 10\r\nget a\r\n", STORED + b"OK\r\n" + FOUND),
    Case("flush_all with a negative", SET + b"flush_all -1\r\nget a\r\n", STORED + b"OK\r\n" + END),
    Case("flush_all with a word", b"flush_all x\r\n", BAD_EXPTIME),
    Case("flush_all beyond 32 bits", b"flush_all 99999999999\r\n", BAD_EXPTIME),
    Case("verbosity", b"verbosity 0\r\n", b"OK\r\n"),
    Case("verbosity without a level", b"verbosity\r\n", BAD),
    Case("verbosity with a word", b"verbosity x\r\n", BAD),
    Case("cache_memlimit", b"cache_memlimit 64\r\n", b"OK\r\n"),
    Case("cache_memlimit too small", b"cache_memlimit 7\r\n",
         b"MEMLIMIT_TOO_SMALL cannot set maxbytes to less than 8m\r\n"),
    Case("cache_memlimit in bytes", b"cache_memlimit 1000000001\r\n",
         b"MEMLIMIT_ADJUST_FAILED input value is megabytes not bytes\r\n"),
    Case("cache_memlimit without a number", b"cache_memlimit\r\n", b"ERROR\r\n"),
    Case("cache_memlimit with a word", b"cache_memlimit x\r\n", b"ERROR\r\n"),
    Case("shutdown where it is off", b"shutdown\r\n", b"SERVER_ERROR: shutdown not enabled\r\n"),
    Case("stats reset", b"stats reset\r\n", b"RESET\r\n"),
    Case("stats of nothing known", b"stats nonsense\r\n", b"ERROR\r\n"),
    Case("stats sizes", b"stats sizes\r\n", b"STAT sizes_status disabled\r\nEND\r\n"),
    Case("stats items of an empty server", b"stats items\r\n", END),
    Case("stats slabs of an empty server", b"stats slabs\r\n",
         b"STAT active_slabs 0\r\nSTAT total_malloced 0\r\nEND\r\n"),
]  # fmt: skip

LINES = [
    Case("an unknown command", b"foo\r\n", b"ERROR\r\n"),
    Case("an unknown command with words", b"foo bar baz\r\n", b"ERROR\r\n"),
    Case("capitals", b"GET a\r\n", b"ERROR\r\n"),
    Case("an empty line", b"\r\n", BAD),
    Case("a bare line feed", b"\n", BAD),
    Case("one letter", b"x\r\n", BAD),
    Case("only spaces", b"     \r\n", b"ERROR\r\n"),
    Case("a space before the command", b" get a\r\n", b"ERROR\r\n"),
    Case("spaces before an administrative command", b"  flush_all\r\n", b"OK\r\n"),
    Case("a carriage return too many", b"version\r\r\n", b"ERROR\r\n"),
    Case("many in one go", SET + b"get a\r\n" * 20 + b"delete a\r\n", STORED + FOUND * 20 + b"DELETED\r\n"),
]

LOOKALIKES = [
    Case("a value that is a get", SET + storage(b"set b 0 0 5", b"get a"), STORED * 2),
    Case("a value that is a set", SET + storage(b"set b 0 0 14", b"set a 0 0 1\r\nx") + b"get a\r\n",
         STORED * 2 + FOUND),
    Case("a refused value that is a get", SET + storage(b"set b x 0 5", b"get a"), STORED + BAD),
    Case("a refused value that is a set", SET + storage(b"set b x 0 14", b"set a 0 0 1\r\nx") + b"get a\r\n",
         STORED + BAD + FOUND),
    Case("a key that is a command", SET + b"gets get a\r\n", STORED + b"VALUE a 5 3 1\r\nfoo\r\nEND\r\n"),
    Case("keys that are a set", SET + b"gets set a 0 0 1\r\nx\r\n",
         STORED + b"VALUE a 5 3 1\r\nfoo\r\nEND\r\n" + BAD),
]  # fmt: skip
"""What looks like another request where the input is cut before it."""

CASES = [*LOOKALIKES, *STORAGE, *CAS, *RETRIEVAL, *CHANGES, *SILENCE, *REFUSED_STORAGE, *SERVER, *LINES, *META]

CLOSING = [
    Case("quit", b"quit\r\n", b""),
    Case("quit after other requests", SET + b"quit\r\n", STORED),
    Case("a browser", b"POST / HTTP/1.1\r\n", b""),
    Case("a line without end", b"x" * 2049, b""),
    Case("a line without end after a request", b"version\r\n" + b"x" * 2049, VERSION),
]
"""Those after which the connection is closed."""
