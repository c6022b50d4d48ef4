"""Real requests to start from, and the words that damage puts in their place."""

from tests.protocol.text.text_cases import CASES, CLOSING

LONGEST = 3000

META = [
    b"mn\r\n", b"mg a\r\n", b"mg a v\r\n", b"mg a t f v c l h s k O1 q\r\n", b"mg YQ== b k v\r\n",
    b"mg a N30 R10 T60 v\r\n",
    b"mg a s v Oopaque E1000000000000\r\n", b"ms a 2\r\nhi\r\n", b"ms a 2 T30 F5 c k Oxyz\r\nhi\r\n",
    b"ms YQ== 2 b k\r\nhi\r\n",
    b"ms a 2 MA N60 s\r\nhi\r\n", b"ms a 2 MP\r\nhi\r\n", b"ms a 2 ME q\r\nhi\r\n", b"ms a 2 C1 I E99\r\nhi\r\n",
    b"ms a 0\r\n\r\n", b"md a\r\n", b"md a q I T30 C1\r\n", b"md a x E77 k\r\n", b"ma n\r\n",
    b"ma n v D5 J10 N60 MI t c\r\n",
    b"ma n MD D99 v q\r\n", b"me a\r\n", b"me YQ== b\r\n", b"mg " + b"k" * 250 + b" k\r\n",
    b"mg " + b"k" * 251 + b"\r\n",
    b"ms a 5 S100\r\nhello\r\n", b"mg a O" + b"x" * 40 + b"\r\n", b"mg a q\r\nmg b q\r\nmn\r\n",
]  # fmt: skip

ADMINISTRATION = [
    b"stats\r\n", b"stats items\r\n", b"stats slabs\r\n", b"stats settings\r\n", b"stats conns\r\n",
    b"stats detail on\r\n",
    b"stats detail dump\r\n", b"stats cachedump 1 0\r\n", b"lru_crawler enable\r\n", b"lru_crawler sleep 100\r\n",
    b"lru_crawler tocrawl 0\r\n", b"lru_crawler crawl all\r\n", b"lru_crawler metadump all\r\n",
    b"lru_crawler mgdump all\r\n",
    b"lru tune 10 20 0.1 2.0\r\n", b"lru mode flat\r\n", b"lru temp_ttl 60\r\n", b"slabs reassign 1 2\r\n",
    b"slabs automove 1\r\n", b"verbosity 1\r\n", b"cache_memlimit 64\r\n", b"flush_all 5\r\n", b"shutdown graceful\r\n",
    b"watch fetchers mutations\r\n", b"watch\r\n", b"refresh_certs\r\n", b"misbehave\r\n",
]  # fmt: skip

LOGIN = [
    b"set auth 0 0 11\r\nname secret\r\n", b"set auth 0 0 10\r\nname wrong\r\n", b"set auth 0 0 3\r\nfoo\r\n",
    b"set auth 0 0 16385\r\n", b"set auth 0 0 -1\r\n", b"get a\r\n", b"\n", b"set auth 0 0 4\r\nfoo!!!\r\n",
]  # fmt: skip

REQUESTS = [
    *[case.request for case in (*CASES, *CLOSING) if len(case.request) <= LONGEST],
    *META * 3,
    *ADMINISTRATION,
]

TOKENS = [
    b" ", b"  ", b"\r\n", b"\n", b"\r", b"\r\r\n", b"\0", b"\t", b"\x0b", b"\xff", b"\x80", b"\x81", b"-", b"+",
    b"0", b"-1",
    b"00", b"2147483647", b"2147483648", b"4294967295", b"4294967296", b"9223372036854775808", b"18446744073709551615",
    b"18446744073709551616", b"99999999999999999999999", b"1.5", b"1e9", b"0x10", b"nan", b"noreply", b"a", b"n",
    b"all",
    b"k" * 250, b"k" * 251, b"=" * 8, b"YQ==", b" b", b" q", b" k", b" v", b" I", b" N-1", b" T-1", b" E0", b" C0",
    b" MA", b" x",
    b" b" * 25, b" O" + b"x" * 32, b"get ", b"set ", b"mg ", b"ms ", b"ma ", b"md ", b"me ", b"gat ", b"HTTP/1.1",
    b"quit\r\n",
]  # fmt: skip
