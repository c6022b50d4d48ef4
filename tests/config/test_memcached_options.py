"""The sub-options of -o: what each sets, and memcached's words for what is senseless."""

import pytest

from memcache_kv.cli import parse
from memcache_kv.config.memcached_options import Unused
from memcache_kv.config.settings import MIB, Settings
from memcache_kv.config.suboptions import SUBOPTIONS
from memcache_kv.errors import EX_USAGE, WRONG_STATUS, ConfigError

WITH_EFFECT = [
    ("maxconns_fast", "maxconns_fast", True),
    ("no_maxconns_fast", "maxconns_fast", False),
    ("idle_timeout=3", "idle_timeout", 3),
    ("idle_timeout=3x", "idle_timeout", 3),
    ("idle_timeout=x", "idle_timeout", 0),
    ("lru_crawler", "lru_crawler", True),
    ("no_lru_crawler", "lru_crawler", False),
    ("lru_crawler_sleep=0", "crawler_sleep_us", 0),
    ("lru_crawler_sleep=1000000", "crawler_sleep_us", 1_000_000),
    ("lru_crawler_tocrawl=4294967295", "crawler_tocrawl", 4_294_967_295),
    ("track_sizes", "track_sizes", True),
    ("no_modern", "lru_crawler", False),
    ("no_modern", "maxconns_fast", False),
    ("no_modern,lru_crawler", "lru_crawler", True),
    ("no_maxconns_fast,maxconns_fast", "maxconns_fast", True),
    ("maxconns_fast=never", "maxconns_fast", True),
]

SHOWN = [
    ("hashpower=12", "hashpower_init", 12),
    ("hashpower=32", "hashpower_init", 32),
    ("no_slab_reassign", "slab_reassign", False),
    ("no_slab_reassign,slab_reassign", "slab_reassign", True),
    ("slab_automove", "slab_automove", 1),
    ("slab_automove=2", "slab_automove", 2),
    ("no_slab_automove", "slab_automove", 0),
    ("slab_automove_ratio=0.5", "slab_automove_ratio", 0.5),
    ("slab_automove_window=3", "slab_automove_window", 3),
    ("slab_chunk_max=16", "slab_chunk_max", 16384),
    ("no_chunked_items", "slab_chunk_max", MIB),
    ("tail_repair_time=10", "tail_repair_time", 10),
    ("no_lru_maintainer", "lru_segmented", False),
    ("no_lru_maintainer,lru_maintainer", "lru_maintainer_thread", True),
    ("hot_lru_pct=1", "hot_lru_pct", 1),
    ("warm_lru_pct=60", "warm_lru_pct", 60),
    ("hot_max_factor=.5", "hot_max_factor", 0.5),
    ("warm_max_factor=1e1", "warm_max_factor", 10.0),
    ("temporary_ttl=5", "temporary_ttl", 5),
    ("temporary_ttl=5", "temp_lru", True),
    ("watcher_logbuf_size=1", "watcher_logbuf_size", 1024),
    ("worker_logbuf_size=2", "worker_logbuf_size", 2048),
    ("read_buf_mem_limit=1", "read_buf_mem_limit", MIB),
    ("no_modern", "slab_reassign", False),
    ("slab_sizes=100-200", "slab_sizes", "100-200"),
]

OF_TLS = [
    ("ssl_chain_cert=/tmp/a", "ssl_chain_cert", "/tmp/a"),
    ("ssl_key=/tmp/b", "ssl_key", "/tmp/b"),
    ("ssl_verify_mode=3", "ssl_verify_mode", 3),
    ("ssl_keyformat=2", "ssl_keyformat", 2),
    ("ssl_ciphers=A:B", "ssl_ciphers", "A:B"),
    ("ssl_ca_cert=/tmp/c", "ssl_ca_cert", "/tmp/c"),
    ("ssl_wbuf_size=64", "ssl_wbuf_size", 65536),
    ("ssl_session_cache", "ssl_session_cache", True),
    ("ssl_kernel_tls", "ssl_kernel_tls", True),
    ("ssl_min_version=3", "ssl_min_version", 3),
]

WITHOUT_ANY = [
    "modern", "no_hashexpand", "hash_algorithm=jenkins", "hash_algorithm=murmur3", "hash_algorithm=xxh3",
    "resp_obj_mem_limit=1", "inline_ascii_resp", "no_inline_ascii_resp", "drop_privileges", "no_drop_privileges",
    "relaxed_privileges",
]  # fmt: skip

REFUSED = [
    ("nonsense", 'Illegal suboption "nonsense"'),
    ("nonsense=5", 'Illegal suboption "nonsense=5"'),
    ("ext_path=/tmp/x:1g", 'Illegal suboption "ext_path=/tmp/x:1g"'),
    ("ssl_chain_cert", "Missing ssl_chain_cert argument"),
    ("ssl_key", "Missing ssl_key argument"),
    ("ssl_ciphers", "Missing ssl_ciphers argument"),
    ("ssl_ca_cert", "Missing ssl_ca_cert argument"),
    ("ssl_keyformat", "Missing ssl_keyformat argument"),
    ("ssl_keyformat=PEM", "could not parse argument to ssl_keyformat"),
    ("ssl_verify_mode", "Missing ssl_verify_mode argument"),
    ("ssl_verify_mode=x", "could not parse argument to ssl_verify_mode"),
    ("ssl_verify_mode=4", "Invalid ssl_verify_mode. Use help to see valid options."),
    ("ssl_min_version", "Missing ssl_min_version argument"),
    ("ssl_min_version=1.2", "could not parse argument to ssl_min_version"),
    ("ssl_min_version=-1", "Invalid ssl_min_version. Use help to see valid options."),
    ("ssl_wbuf_size", "Missing ssl_wbuf_size argument"),
    ("ssl_wbuf_size=x", "could not parse argument to ssl_wbuf_size"),
    ("idle_timeout", "Missing numeric argument for idle_timeout"),
    ("hashpower", "Missing numeric argument for hashpower"),
    ("hashpower=11", "Initial hashtable multiplier of 11 is too low"),
    ("hashpower=x", "Initial hashtable multiplier of 0 is too low"),
    ("hashpower=33", "Initial hashtable multiplier of 33 is too high"),
    ("slab_automove=3", "slab_automove must be between 0 and 2"),
    ("slab_automove=-1", "slab_automove must be between 0 and 2"),
    ("slab_automove_ratio", "Missing slab_automove_ratio argument"),
    ("slab_automove_ratio=0", "slab_automove_ratio must be > 0 and < 1"),
    ("slab_automove_ratio=1.1", "slab_automove_ratio must be > 0 and < 1"),
    ("slab_automove_window", "Missing slab_automove_window argument"),
    ("slab_automove_window=2", "slab_automove_window must be > 2 and < 1800"),
    ("slab_automove_window=1801", "slab_automove_window must be > 2 and < 1800"),
    ("tail_repair_time", "Missing numeric argument for tail_repair_time"),
    ("tail_repair_time=9", "Cannot set tail_repair_time to less than 10 seconds"),
    ("hash_algorithm", "Missing hash_algorithm argument"),
    ("hash_algorithm=md5", "Unknown hash_algorithm option (jenkins, murmur3, xxh3)"),
    ("lru_crawler_sleep", "Missing lru_crawler_sleep value"),
    ("lru_crawler_sleep=1000001", "LRU crawler sleep must be between 0 and 1 second"),
    ("lru_crawler_sleep=-1", "LRU crawler sleep must be between 0 and 1 second"),
    ("lru_crawler_tocrawl", "Missing lru_crawler_tocrawl value"),
    ("lru_crawler_tocrawl=x", "lru_crawler_tocrawl takes a numeric 32bit value"),
    ("lru_crawler_tocrawl=4294967296", "lru_crawler_tocrawl takes a numeric 32bit value"),
    ("hot_lru_pct", "Missing hot_lru_pct argument"),
    ("hot_lru_pct=80", "hot_lru_pct must be > 1 and < 80"),
    ("warm_lru_pct=0", "warm_lru_pct must be > 1 and < 80"),
    ("hot_max_factor=0", "hot_max_factor must be > 0"),
    ("warm_max_factor", "Missing warm_max_factor argument"),
    ("temporary_ttl", "Missing temporary_ttl argument"),
    ("watcher_logbuf_size", "Missing watcher_logbuf_size argument"),
    ("watcher_logbuf_size=x", "could not parse argument to watcher_logbuf_size"),
    ("worker_logbuf_size=-1", "could not parse argument to worker_logbuf_size"),
    ("read_buf_mem_limit=", "could not parse argument to read_buf_mem_limit"),
    ("slab_sizes", "Missing slab_sizes argument"),
    ("slab_chunk_max", "Missing slab_chunk_max argument"),
    ("slab_chunk_max=x", "could not parse argument to slab_chunk_max"),
    ("slab_chunk_max=0", "slab_chunk_max must be >= 0"),
    ("slab_chunk_max=-1", "slab_chunk_max must be >= 0"),
    ("slab_chunk_max=1025", "slab_chunk_max must be specified in kilobytes."),
]

MISFITS = [
    (["-I", "1024", "-o", "slab_chunk_max=2"], "slab_chunk_max (bytes: 2048) cannot be larger than -I"),
    (["-I", "3000", "-o", "slab_chunk_max=1"], "-I (item_size_max: 3000) must be evenly divisible by slab_chunk_max"),
    (["-I", "3m", "-o", "slab_chunk_max=384"], "slab_chunk_max (bytes: 393216) must divide evenly into 1048576"),
    (["-o", "hot_lru_pct=41"], "hot_lru_pct + warm_lru_pct cannot be more than 80% combined"),
    (["-o", "temporary_ttl=5,no_lru_maintainer"], "temporary_ttl requires lru_maintainer to be enabled"),
    (["-o", "slab_sizes=47"], "slab size 47 is out of valid range"),
    (["-o", "slab_sizes=100-x"], "slab size 0 is out of valid range"),
    (["-o", "slab_sizes=100-100"], "slab size 100 cannot be lower than or equal to a previous class size"),
    (["-o", "slab_sizes=100-108"], "slab size 108 must be at least 8 bytes larger than previous class"),
    (["-o", "slab_sizes=" + "-".join(str(100 * n) for n in range(1, 64))], "too many slab classes specified"),
]


@pytest.mark.parametrize(("text", "field", "value"), WITH_EFFECT)
def test_a_suboption_with_an_effect_sets_its_field(text: str, field: str, value: object) -> None:
    assert getattr(parse(["-o", text]), field) == value


@pytest.mark.parametrize(("text", "field", "value"), SHOWN)
def test_a_suboption_without_an_effect_is_kept_to_be_shown(text: str, field: str, value: object) -> None:
    assert getattr(parse(["-o", text]).extended, field) == value


@pytest.mark.parametrize(("text", "field", "value"), OF_TLS)
def test_a_suboption_of_tls_sets_its_field(text: str, field: str, value: object) -> None:
    assert getattr(parse(["-o", text]).tls, field) == value
    assert getattr(parse([]).tls, field) != value


@pytest.mark.parametrize("text", WITHOUT_ANY)
def test_the_others_change_nothing(text: str) -> None:
    assert parse(["-o", text]) == Settings()


def test_every_suboption_has_an_example() -> None:
    shown = [*(text for text, _, _ in [*WITH_EFFECT, *SHOWN, *OF_TLS]), *WITHOUT_ANY]
    assert {part.partition("=")[0] for text in shown for part in text.split(",")} == SUBOPTIONS.keys()


def refusal(*arguments: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        parse(arguments)
    return caught.value


@pytest.mark.parametrize(("text", "said"), REFUSED)
def test_a_senseless_suboption_is_refused_in_memcacheds_words(text: str, said: str) -> None:
    error = refusal("-o", text)
    assert (str(error), error.status) == (said, WRONG_STATUS)


@pytest.mark.parametrize(("arguments", "said"), MISFITS)
def test_what_does_not_fit_together_is_refused_in_memcacheds_words(arguments: list[str], said: str) -> None:
    error = refusal(*arguments)
    assert str(error).startswith(said)
    assert error.status == EX_USAGE


def test_suboptions_can_be_joined_or_repeated() -> None:
    settings = parse(["-o", "idle_timeout=1,track_sizes", "-o", "idle_timeout=2"])
    assert (settings.idle_timeout, settings.track_sizes) == (2, True)
    assert settings.extended == Unused()
