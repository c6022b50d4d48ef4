"""Lines about the server and what memcached 1.6.45 answers to them, with a server just started."""

ERROR = b"ERROR\r\n"
OK = b"OK\r\n"
BAD_LINE = b"CLIENT_ERROR bad command line format\r\n"
BAD_CLASS = b"BADCLASS invalid class id\r\n"
USAGE = b"CLIENT_ERROR usage: stats detail on|off|dump\r\n"
RUNNING = b"ERROR failed to start lru crawler thread\r\n"
RESTS = b"CLIENT_ERROR lru crawler disabled\r\n"
NO_PAGES = b"NOSPARE source class has no spare pages\r\n"
NO_CLASS = b"BADCLASS invalid src or dst class id\r\n"
TOO_MUCH = b"ERROR hot and warm pcts must not exceed 80\r\n"
NOT_POSITIVE = b"ERROR hot/warm age factors must be greater than 0\r\n"
WINDOW = b"CLIENT_ERROR automove window too low or too high\r\n"

STATS: list[tuple[bytes, bytes]] = [
    (b"stats cachedump", b"CLIENT_ERROR bad command line\r\n"),
    (b"stats cachedump 1", b"CLIENT_ERROR bad command line\r\n"),
    (b"stats c", b"CLIENT_ERROR bad command line\r\n"),
    (b"stats cachedump 1 x", BAD_LINE),
    (b"stats cachedump x 1", BAD_LINE),
    (b"stats cachedump 1 -1", BAD_LINE),
    (b"stats cachedump 64 0", b"CLIENT_ERROR Illegal slab id\r\n"),
    (b"stats cachedump 63 0", b"END\r\n"),
    (b"stats cachedump 0 0", b"END\r\n"),
    (b"stats cach 1 0", b"END\r\n"),
    (b"stats cachedump 1 0 more", b"END\r\n"),
    (b"stats detail", USAGE),
    (b"stats d", USAGE),
    (b"stats detail x", USAGE),
    (b"stats detail dumps", USAGE),
    (b"stats detail dump", b"END\r\n"),
    (b"stats detail d more", b"END\r\n"),
    (b"stats detail on", OK),
    (b"stats d o", OK),
    (b"stats detail of", OK),
    (b"stats r", b"RESET\r\n"),
    (b"stats reset more", b"RESET\r\n"),
    (b"stats sizes", b"STAT sizes_status disabled\r\nEND\r\n"),
    (b"stats size", ERROR),
    (b"stats item", ERROR),
    (b"stats slabss", ERROR),
    (b"stats detailed", ERROR),
    (b"stats extstore", b"END\r\n"),
    (b"stats e", b"END\r\n"),
    (b"stats extstores", ERROR),
]
"""Of some words the beginning is enough; `items`, `slabs` and `sizes` are to be whole."""

CRAWLER: list[tuple[bytes, bytes]] = [
    (b"lru_crawler", ERROR),
    (b"lru_crawler foo", ERROR),
    (b"lru_crawler foo bar", ERROR),
    (b"lru_crawler crawl", ERROR),
    (b"lru_crawler crawl 1 2", ERROR),
    (b"lru_crawler crawl 0", BAD_CLASS),
    (b"lru_crawler crawl 64", BAD_CLASS),
    (b"lru_crawler crawl -1", BAD_CLASS),
    (b"lru_crawler crawl x", BAD_CLASS),
    (b"lru_crawler crawl 1x", BAD_CLASS),
    (b"lru_crawler crawl 1,x", BAD_CLASS),
    (b"lru_crawler crawl 99999999999999999999999", BAD_CLASS),
    (b"lru_crawler crawl hash", b"ERROR an unknown error happened\r\n"),
    (b"lru_crawler metadump", ERROR),
    (b"lru_crawler metadump 1 2", ERROR),
    (b"lru_crawler metadump 0", BAD_CLASS),
    (b"lru_crawler metadump x", BAD_CLASS),
    (b"lru_crawler mgdump 64", BAD_CLASS),
    (b"lru_crawler tocrawl 5", OK),
    (b"lru_crawler t 0", OK),
    (b"lru_crawler tocrawl x", BAD_LINE),
    (b"lru_crawler tocrawl -1", BAD_LINE),
    (b"lru_crawler tocrawl 4294967296", BAD_LINE),
    (b"lru_crawler sleep 0", OK),
    (b"lru_crawler s 1000000", OK),
    (b"lru_crawler sleep 1000001", b"CLIENT_ERROR sleep must be one second or less\r\n"),
    (b"lru_crawler sleep x", BAD_LINE),
    (b"lru_crawler enable", RUNNING),
    (b"lru_crawler e", RUNNING),
    (b"lru_crawler enable more", ERROR),
    (b" lru_crawler enable", RUNNING),
    (b"lru_crawler enable noreply", b""),
]

LRU: list[tuple[bytes, bytes]] = [
    (b"lru foo", ERROR),
    (b"lru x y z", ERROR),
    (b"lru tune 10 25 0.1 2.0", OK),
    (b"lru t 10 25 0.1 2.0", OK),
    (b"lru tune 10 25 0.1 2.0 more words", OK),
    (b"lru tune 10 25 0.1", ERROR),
    (b"lru tune 50 31 0.1 2.0", TOO_MUCH),
    (b"lru tune 40 40 1e1 .5", OK),
    (b"lru tune 10 10 0 1", NOT_POSITIVE),
    (b"lru tune 10 10 1 -1", NOT_POSITIVE),
    (b"lru tune x 10 1 1", ERROR),
    (b"lru tune 10 -1 1 1", ERROR),
    (b"lru tune 10 10 x 1", ERROR),
    (b"lru tune 10 10 1 1_0", ERROR),
    (b"lru mode flat", OK),
    (b"lru mode segmented", OK),
    (b"lru m fl", OK),
    (b"lru mode x", ERROR),
    (b"lru mode", ERROR),
    (b"lru temp_ttl 60", OK),
    (b"lru te -1", OK),
    (b"lru temp_ttl x", ERROR),
    (b"lru temp_ttl", ERROR),
]

SLABS: list[tuple[bytes, bytes]] = [
    (b"slabs", ERROR),
    (b"slabs foo 1", ERROR),
    (b"slabs reassign 1", ERROR),
    (b"slabs reassign 1 2 3", ERROR),
    (b"slabs reassign x 1", BAD_LINE),
    (b"slabs reassign 1 x", BAD_LINE),
    (b"slabs reassign 5 5", b"SAME src and dst class are identical\r\n"),
    (b"slabs reassign 99 99", b"SAME src and dst class are identical\r\n"),
    (b"slabs reassign 1 99", NO_CLASS),
    (b"slabs reassign -2 1", NO_CLASS),
    (b"slabs reassign -1 1", NO_CLASS),
    (b"slabs reassign 1 2", NO_PAGES),
    (b"slabs r 0 1", NO_PAGES),
    (b"slabs automove", ERROR),
    (b"slabs automove 0", OK),
    (b"slabs automove 2", OK),
    (b"slabs a 1", OK),
    (b"slabs automove 3", ERROR),
    (b"slabs automove x", BAD_LINE),
    (b"slabs automove ratio 0.5", OK),
    (b"slabs automove ratio x", ERROR),
    (b"slabs automove ratio", ERROR),
    (b"slabs automove r 1", OK),
    (b"slabs automove freeratio 0.1", OK),
    (b"slabs automove f 1", OK),
    (b"slabs automove freeratio x", ERROR),
    (b"slabs automove freeratio", ERROR),
    (b"slabs automove freeratios 0.1", BAD_LINE),
    (b"slabs automove window 3", OK),
    (b"slabs automove window 1800", OK),
    (b"slabs automove window 2", WINDOW),
    (b"slabs automove window 1801", WINDOW),
    (b"slabs automove window x", BAD_LINE),
    (b"slabs automove window", BAD_LINE),
]

OTHERS: list[tuple[bytes, bytes]] = [
    (b"misbehave", ERROR),
    (b"debugitem lock a", ERROR),
    (b"debugtime", ERROR),
    (b"debugtime p", ERROR),
    (b"debugtime 5", ERROR),
    (b"debugtime 5 noreply", b""),
    (b"shutdown", b"SERVER_ERROR: shutdown not enabled\r\n"),
    (b"shutdown graceful", b"SERVER_ERROR: shutdown not enabled\r\n"),
]

CASES = [*STATS, *CRAWLER, *LRU, *SLABS, *OTHERS]
