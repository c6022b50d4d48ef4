"""--config with a memcached.conf as Debian has it: which files are in that format, and what each line means."""

from pathlib import Path

import pytest

from memcache_kv.config.loading import load_settings
from memcache_kv.config.memcached_conf import is_memcached_conf
from memcache_kv.config.settings import MIB, Settings
from memcache_kv.errors import EX_USAGE, ConfigError
from tests.program import Program

DEBIAN = """\
# memcached default config file
# 2003

# Run memcached as a daemon.
-d

# Log memcached's output to /var/log/memcached
logfile /var/log/memcached.log

# Be verbose
# -v
-m 64
# Default connection port is 11211
-p 11211
-u memcache
-l 127.0.0.1
# -c 1024
-P /var/run/memcached/memcached.pid
"""
INSTALLED = Path("/etc/memcached.conf")


def settings_of(directory: Path, text: str, warn: list[str] | None = None, **flags: str) -> Settings:
    """What a file with this text means."""
    config = directory / "memcached.conf"
    config.write_text(text)
    return load_settings(flags, config, {}, (warn if warn is not None else []).append)


def test_debians_file_means_what_it_says(tmp_path: Path) -> None:
    said: list[str] = []
    assert settings_of(tmp_path, DEBIAN, said) == Settings(
        memory_limit=64 * MIB, port=11211, port_given=True, user="memcache", listen=("127.0.0.1",)
    )
    assert said == []


@pytest.mark.skipif(not INSTALLED.exists(), reason="Debian's memcached is not installed")
def test_the_installed_file_is_read_too() -> None:
    said: list[str] = []
    settings = load_settings({}, INSTALLED, {}, said.append)
    assert (settings.user, settings.daemon, settings.pidfile, said) == ("memcache", False, None, [])


@pytest.mark.parametrize(
    ("line", "field", "value"),
    [
        ("-m 128 # MB", "memory_limit", 128 * MIB),
        ("  -m   128  ", "memory_limit", 128 * MIB),
        ("-m128", "memory_limit", 128 * MIB),
        ("--memory-limit=128", "memory_limit", 128 * MIB),
        ("-vv", "verbose", 2),
        ("-v\n-v", "verbose", 2),
        ("-M -k", "lock_memory", True),
        ("-l 127.0.0.1\n-l ::1", "listen", ("127.0.0.1", "::1")),
        ("-l 127.0.0.1,::1", "listen", ("127.0.0.1", "::1")),
        ("-o no_maxconns_fast,track_sizes", "track_sizes", True),
        ('-s "/tmp/with blank"', "unix_socket", Path("/tmp/with blank")),
        (r"-s /tmp/a\#b", "unix_socket", Path("/tmp/a#b")),
        ("--journal /var/lib/memcache_kv", "journal", Path("/var/lib/memcache_kv")),
        ("-p 5\n-d", "daemon", False),
        ("-p 5\n-h", "port", 5),
    ],
)
def test_a_line_has_flags(tmp_path: Path, line: str, field: str, value: object) -> None:
    said: list[str] = []
    assert getattr(settings_of(tmp_path, line + "\r\n", said), field) == value
    assert said == []


def test_a_flag_wins_over_a_variable_and_that_over_the_file(tmp_path: Path) -> None:
    assert settings_of(tmp_path, "-m 64\n-p 5", port="6").port == 6
    (tmp_path / "conf").write_text("-p 5")
    assert load_settings({}, tmp_path / "conf", {"MEMCACHE_KV_PORT": "7"}).port == 7


def test_another_word_is_ignored_with_a_warning(tmp_path: Path) -> None:
    said: list[str] = []
    assert settings_of(tmp_path, "-p 5\n\nverbose yes\n", said).port == 5
    assert said == [f"{tmp_path / 'memcached.conf'}, line 3: 'verbose yes' is no flag, and is ignored"]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("-p", "-p/--port: expected one argument"),
        ("-z 5", "unrecognized arguments: -z 5"),
        ("--prot 5", "unrecognized arguments: --prot 5"),
        ("-p 5 extra", "unrecognized arguments: extra"),
        ("-m 5\n-s 'open", "line 2: No closing quotation"),
        ("--config other", "unrecognized arguments"),
    ],
)
def test_a_bad_line_is_refused_with_the_file_named(tmp_path: Path, text: str, part: str) -> None:
    with pytest.raises(ConfigError) as error:
        settings_of(tmp_path, text)
    assert part in str(error.value)
    assert f"--config: {tmp_path / 'memcached.conf'}" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_bad_value_has_the_status_that_it_has_as_a_flag(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--config, port: ") as error:
        settings_of(tmp_path, "-p 70000")
    assert error.value.status == EX_USAGE


@pytest.mark.parametrize(
    ("text", "is_so"),
    [
        ("", False),
        ("# nothing\n\n", False),
        ("port = 5\n", False),
        ("# -p 5\nport = 5\n", False),
        ("logfile = 'x'\n", False),
        ("listen = [\n  '-l'\n]\n", False),
        ("-p 5\n", True),
        ("\n# a comment\n  -p 5", True),
        ("logfile /var/log/memcached.log\n-p 5", True),
        ("--port=5", True),
    ],
)
def test_the_content_decides_which_format_it_is(text: str, is_so: bool) -> None:
    assert is_memcached_conf(text) == is_so


def test_the_program_reads_it(tmp_path: Path) -> None:
    config = tmp_path / "memcached.conf"
    config.write_text("-d\nlogfile /nowhere/log\n-p 0\n-l 127.0.0.1\n-m 96\n-P /nowhere/pid\n")
    with Program("--config", str(config)) as program:
        assert program.ask(b"version\r\n").startswith(b"VERSION ")
        assert b"limits: 96 MB" in program.said
        assert program.end() == 0
