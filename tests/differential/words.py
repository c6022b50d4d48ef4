"""What requests are made of: keys, numbers at their edges, flags and values."""

from base64 import b64encode

from hypothesis import strategies as st

PLAIN_KEYS = (b"a", b"b", b"n")
WIDE = b"w"
"""A key whose numbers are always stored 20 bytes wide, so that none ever grows."""
BINARY_KEYS = (b"two words", b"\x00\xff\n", b"\xfb\xff\xfe", b"j" * 186, b"j" * 187)
"""Keys that are only asked for in their encoded form."""
SHARED = {b64encode(key): key for key in (*PLAIN_KEYS, WIDE, b"ab")}
"""Keys that are asked for in both forms."""
ENCODED = {key: b64encode(key) for key in BINARY_KEYS}
ENCODED_KEYS = (*SHARED, *ENCODED.values())
BROKEN_KEYS = (
    b"YQ",
    b"YQ=",
    b"Y",
    b"=",
    b"====",
    b"YQ==YQ==",
    b"Y!==",
    b"YR==",
    b64encode(b"k" * 188),
    b"_-__",
)
K250, K251 = b"k" * 250, b"k" * 251

LITERAL_CAS = 10**12
"""CAS ids from here on are only ever given by a client, and compared as they are."""
LAST_ID, EARLIER_ID = b"<id-1>", b"<id-2>"
"""Stand for the ids seen last on the side that the request is sent to."""

keys = st.sampled_from(PLAIN_KEYS * 6 + (WIDE, b"c", K250, b"\xff\x80", b"noreply"))
encoded_keys = st.sampled_from(ENCODED_KEYS * 3 + BROKEN_KEYS)

U32 = (b"4294967295", b"4294967296")
I32 = (b"2147483646", b"2147483647", b"2147483648", b"-2147483648", b"-2147483649")
I64 = (b"9223372036854775807", b"9223372036854775808", b"-9223372036854775808", b"-9223372036854775809")
U64 = (b"18446744073709551615", b"18446744073709551616", b"99999999999999999999", b"100000000000000000000")
NO_NUMBERS = (
    b"x",
    b"-",
    b"+",
    b"1x",
    b"1.5",
    b"0x10",
    b"+1",
    b"-0",
    b"00",
    b"007",
    b"1\t",
    b"1\tx",
    b"\t1",
    b"\xb2",
    b"\x001",
)
PADDED = (
    b"00000000001",
    b"000000000001",
    b"-0000000001",
    b"-00000000001",
    b"0" * 21 + b"1",
    b"0018446744073709551615",
    b"0" * 22 + b"1",
    b"-" + b"0" * 21 + b"1",
    b"0" * 400 + b"5",
    b"-18446744073709551615",
)
"""As long as memcached takes a number, one digit longer, and longer than anybody would write one."""
EDGES = U32 + I32 + I64 + U64 + NO_NUMBERS + PADDED


def usually(common: tuple[bytes, ...], rare: tuple[bytes, ...] = EDGES) -> st.SearchStrategy[bytes]:
    """One of the common ones, five times of six."""
    return st.one_of(*[st.sampled_from(common)] * 5, st.sampled_from(rare))


flags = usually((b"0", b"1", b"5", b"255", b"65536", b"4294967295"))
deltas = usually((b"0", b"1", b"5", b"9", b"91", b"1000", b"9223372036854775807", b"18446744073709551615"))
levels = usually((b"0", b"1"))
exptimes = usually(
    (b"0", b"0", b"0", b"1", b"2", b"5", b"10", b"30", b"100", b"2592000", b"2592001", b"-1", b"<now+20>", b"<now+0>"),
    tuple(word for word in EDGES if word not in (b"2147483646", b"2147483647")),
)
delays = usually((b"0", b"2", b"5", b"10", b"-1", b"<now+20>"), (*NO_NUMBERS, *U64, *I64, b"2147483648"))
cas_ids = usually(
    (LAST_ID, LAST_ID, LAST_ID, LAST_ID, EARLIER_ID, b"1", b"0", b"1000000000000", b"18446744073709551615"),
    (b"x", b"-1", b"18446744073709551616", b"1x", b"", b"99999999999999999999", *PADDED),
)

SIZE_LIMIT = 65536
"""What the servers are started with as -I."""


def large(size: int) -> bytes:
    """A value that makes no overlong line where it is taken for commands."""
    return (b"x" * 99 + b"\n") * (size // 100) + b"y" * (size % 100)


NUMBERS = (b"0", b"5", b"10", b"99", b"9 ", b"18446744073709551615", b"18446744073709551616", b"9223372036854775808")
ODD_NUMBERS = (
    b" 7",
    b"7x",
    b"-3",
    b"+3",
    b"\t8",
    b"8\r\n9",
    b"000",
    b"1 2",
    b"12\x00",
    b"\x0012",
    b"0" * 19 + b"5",
    b"0" * 20 + b"5",
    b"0" * 25,
    b"-0",
    b"-1",
    b"+-1",
    b"-9223372036854775808",
    b"-9223372036854775809",
    b"-18446744073709551615",
    b"-18446744073709551616",
    b" \t-00 x",
)
WORDS = (b"", b"", b"x", b"foo", b"hello", b"\x00\xff\r\n", b"get a", b"mn", b"\r\nx")
LARGE = tuple(map(large, (500, 1000, 3000, 4074, 4075, 4076)))
NEAR_THE_LIMIT = tuple(large(SIZE_LIMIT - less) for less in (0, 50, 55, 56, 57, 58, 59, 60, 61, 62, 63, 64, 65, 66, 70))
values = st.one_of(
    *[st.sampled_from(NUMBERS)] * 4,
    *[st.sampled_from(WORDS)] * 4,
    st.sampled_from(ODD_NUMBERS),
    st.sampled_from(LARGE * 4 + NEAR_THE_LIMIT),
)
wide_numbers = st.sampled_from((b"0", b"5", b"10", b"18446744073709551600")).map(lambda number: number.ljust(20))
line_ends = st.sampled_from((b"\r\n",) * 12 + (b"\n",) * 3 + (b" \r\n",) * 2 + (b"\r\r\n",))
far_words = st.sampled_from(((),) * 20 + tuple((b"x",) * number for number in range(14, 24)))
"""Words behind those that a command has: noreply counts among the first 23 only."""
