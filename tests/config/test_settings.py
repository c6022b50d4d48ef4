"""Settings: every flag, variable and key of the file, which of them wins, and what is said of a bad one."""

from pathlib import Path

import pytest

from memcache_kv.cli import parse
from memcache_kv.config.loading import load_settings
from memcache_kv.config.options import OPTIONS
from memcache_kv.config.settings import MIB, AdminCommands, Fsync, LogFormat, Protection, Settings
from memcache_kv.errors import EX_USAGE, ConfigError

NO_ENVIRONMENT: dict[str, str] = {}


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for option in OPTIONS:
        monkeypatch.delenv(option.variable, raising=False)
    monkeypatch.delenv("MEMCACHE_KV_CONFIG", raising=False)


EXAMPLES = [
    # short, long, text, field, value
    ("-p", "--port", "12345", "port", 12345),
    ("-p", "--port", "0", "port", 0),
    ("-p", "--port", "65535", "port", 65535),
    ("-U", "--udp-port", "11211", "udp_port", 11211),
    ("-l", "--listen", "127.0.0.1", "listen", ("127.0.0.1",)),
    ("-l", "--listen", "127.0.0.1:5,[::1]:6", "listen", ("127.0.0.1:5", "[::1]:6")),
    ("", "--line-listen", "7171", "line_listen", ("7171",)),
    ("", "--line-listen", "read:0.0.0.0:7171,/run/line.sock", "line_listen", ("read:0.0.0.0:7171", "/run/line.sock")),
    ("", "--preload", "rows.gz,-", "preload", ("rows.gz", "-")),
    ("", "--cluster-node", "a|10.0.0.1:11211,b:11211", "cluster_node", ("a|10.0.0.1:11211", "b:11211")),
    ("", "--cluster-file", "nodes", "cluster_file", Path("nodes")),
    ("", "--http-listen", "8080,read:0.0.0.0:8081", "http_listen", ("8080", "read:0.0.0.0:8081")),
    ("", "--admin-listen", "9150,[::1]:9151,/run/admin", "admin_listen", ("9150", "[::1]:9151", "/run/admin")),
    ("", "--admin-token-file", "/etc/token", "admin_token_file", Path("/etc/token")),
    ("", "--drain-seconds", "30", "drain_seconds", 30),
    ("", "--http-host", "cache.example,*", "http_host", ("cache.example", "*")),
    ("", "--http-origin", "https://app.example", "http_origin", ("https://app.example",)),
    ("", "--operation-log", "/tmp/operations", "operation_log", Path("/tmp/operations")),
    ("", "--simple-listen", "[::1]:7172", "simple_listen", ("[::1]:7172",)),
    ("-s", "--unix-socket", "/tmp/x.sock", "unix_socket", Path("/tmp/x.sock")),
    ("-a", "--unix-mask", "666", "unix_mask", 0o666),
    ("-u", "--user", "nobody", "user", "nobody"),
    ("-m", "--memory-limit", "256", "memory_limit", 256 * MIB),
    ("-c", "--conn-limit", "5000", "conn_limit", 5000),
    ("-t", "--threads", "4", "threads", 4),
    ("-I", "--max-item-size", "1024", "max_item_size", 1024),
    ("-I", "--max-item-size", "2k", "max_item_size", 2048),
    ("-I", "--max-item-size", "5m", "max_item_size", 5 * MIB),
    ("-I", "--max-item-size", "5M", "max_item_size", 5 * MIB),
    ("-R", "--max-reqs-per-event", "20", "max_reqs_per_event", 20),
    ("-P", "--pidfile", "/tmp/x.pid", "pidfile", Path("/tmp/x.pid")),
    ("", "--log-format", "json", "log_format", LogFormat.JSON),
    ("", "--log-level", "warning", "log_level", "warning"),
    ("", "--log-level", "debug", "verbose", 2),
    ("", "--log-file", "/tmp/log", "log_file", Path("/tmp/log")),
    ("-b", "--listen-backlog", "64", "backlog", 64),
    ("-D", "--stats-delimiter", "/", "stats_delimiter", "/"),
    ("-D", "--stats-delimiter", "abc", "stats_delimiter", "a"),
    ("-B", "--protocol", "auto", "binding_protocol", "auto"),
    ("-B", "--protocol", "ascii", "binding_protocol", "ascii"),
    ("-B", "--protocol", "text", "binding_protocol", "ascii"),
    ("-B", "--protocol", "binary", "binding_protocol", "binary"),
    ("-Y", "--auth-file", "/tmp/users", "auth_file", Path("/tmp/users")),
    ("", "--admin-commands", "never", "admin_commands", AdminCommands.NEVER),
    ("", "--audit-log", "/tmp/audit", "audit_log", Path("/tmp/audit")),
    ("-f", "--slab-growth-factor", "1.5", "slab_growth_factor", 1.5),
    ("-f", "--slab-growth-factor", "2", "slab_growth_factor", 2.0),
    ("-n", "--slab-min-size", "64", "slab_min_size", 64),
    ("-N", "--napi-ids", "4", "napi_ids", 4),
    ("-o", "--extended", "idle_timeout=5", "idle_timeout", 5),
    ("-o", "--extended", "slab_reassign,no_maxconns_fast", "maxconns_fast", False),
    ("", "--journal", "/tmp/data", "journal", Path("/tmp/data")),
    ("", "--fsync", "always", "fsync", Fsync.ALWAYS),
    ("", "--fsync", "never", "fsync", Fsync.NEVER),
    ("", "--compact-ratio", "1.5", "compact_ratio", 1.5),
    ("", "--compact-ratio", "0", "compact_ratio", 0.0),
    ("", "--keep", "0", "keep", 0),
    ("", "--keep", "3", "keep", 3),
    ("", "--on-rotate", 'cp "$MEMCACHE_KV_CLOSED_FILE" /copy', "on_rotate", 'cp "$MEMCACHE_KV_CLOSED_FILE" /copy'),
    ("", "--rotate-seconds", "60", "rotate_seconds", 60),
    ("", "--shards", "16", "shards", 16),
    ("", "--connection-memory", "100", "connection_memory", 100 * MIB),
    ("", "--max-items", "1000", "max_items", 1000),
    ("", "--login-timeout", "0", "login_timeout", 0),
    ("", "--max-connections-per-address", "100", "max_connections_per_address", 100),
    ("", "--protected", "strict", "protected", Protection.STRICT),
    ("", "--protected", "warn", "protected", Protection.WARN),
]

SWITCHES = [
    ("-Z", "--enable-ssl", "enable_ssl"),
    ("--preload-strict", "--preload-strict", "preload_strict"),
    ("-A", "--enable-shutdown", "enable_shutdown"),
    ("-d", "--daemon", "daemon"),
    ("-M", "--disable-evictions", "disable_evictions"),
    ("-F", "--disable-flush-all", "disable_flush_all"),
    ("-X", "--disable-dumping", "disable_dumping"),
    ("-W", "--disable-watch", "disable_watch"),
    ("-C", "--disable-cas", "disable_cas"),
    ("-k", "--lock-memory", "lock_memory"),
    ("-L", "--enable-largepages", "enable_largepages"),
    ("-r", "--enable-coredumps", "enable_coredumps"),
    ("--compact", "--compact", "compact"),
    ("--admin-tls", "--admin-tls", "admin_tls"),
    ("--ready-needs-journal", "--ready-needs-journal", "ready_needs_journal"),
]

example = pytest.mark.parametrize(("short", "long", "text", "field", "value"), EXAMPLES)
switch = pytest.mark.parametrize(("short", "long", "field"), SWITCHES)


def test_every_option_has_an_example() -> None:
    shown = {long for _, long, *_ in EXAMPLES} | {long for _, long, _ in SWITCHES}
    shown |= {"--verbose", "--debug", "--enable-sasl", "--debug-commands", "--memory-file"}
    assert shown == {f"--{option.name}" for option in OPTIONS}


def test_commands_for_tests_are_known_when_asked_for(tmp_path: Path) -> None:
    assert not parse([]).debug_commands
    assert parse(["--debug-commands"]).debug_commands
    assert load_settings({}, None, {"MEMCACHE_KV_DEBUG_COMMANDS": "1"}).debug_commands
    config = tmp_path / "config.toml"
    config.write_text("debug-commands = true\n")
    assert load_settings({}, config, {}).debug_commands


def test_debug_is_as_verbose_as_two_v(tmp_path: Path) -> None:
    assert parse(["--debug"]).verbose == parse(["--debug", "-v"]).verbose == parse(["-vv"]).verbose == 2
    assert parse(["--debug", "-vvv"]).verbose == 3
    assert load_settings({}, None, {"MEMCACHE_KV_DEBUG": "1"}).verbose == 2
    assert load_settings({}, None, {"MEMCACHE_KV_DEBUG": "0"}).verbose == 0


@pytest.mark.parametrize("flag", ["--listen", "--line-listen", "--simple-listen", "--http-listen"])
def test_an_address_with_a_tls_mode_needs_tls(flag: str) -> None:
    with pytest.raises(ConfigError, match="'notls' option is valid only when SSL is enabled"):
        parse([flag, "read:notls:127.0.0.1:7171"])


def test_the_defaults_are_memcacheds() -> None:
    settings = parse([])
    assert settings == Settings()
    assert (settings.port, settings.memory_limit, settings.conn_limit) == (11211, 64 * MIB, 1024)
    assert (settings.max_item_size, settings.verbose, settings.listen) == (MIB, 0, ())


@example
def test_a_long_flag_sets_its_field(short: str, long: str, text: str, field: str, value: object) -> None:
    assert getattr(parse([long, text]), field) == value
    assert getattr(parse([f"{long}={text}"]), field) == value


@example
def test_a_short_flag_sets_the_same(short: str, long: str, text: str, field: str, value: object) -> None:
    if short:
        assert parse([short, text]) == parse([long, text])
        assert parse([short + text]) == parse([long, text])


@example
def test_a_variable_sets_the_same(
    short: str, long: str, text: str, field: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMCACHE_KV_" + long[2:].replace("-", "_").upper(), text)
    assert getattr(parse([]), field) == value


@example
@pytest.mark.parametrize("underscores", [False, True])
def test_a_key_of_the_file_sets_the_same(
    short: str, long: str, text: str, field: str, value: object, underscores: bool, tmp_path: Path
) -> None:
    key = long[2:].replace("-", "_") if underscores else long[2:]
    config = tmp_path / "config.toml"
    config.write_text(f"{key} = '{text}'\n")
    assert getattr(parse(["--config", str(config)]), field) == value
    if text.isdigit() and field != "unix_mask":
        config.write_text(f"{key} = {text}\n")
        assert getattr(parse(["--config", str(config)]), field) == value


@switch
def test_a_switch_turns_on(short: str, long: str, field: str) -> None:
    assert getattr(parse([]), field) is False
    assert getattr(parse([short]), field) is True
    assert getattr(parse([long]), field) is True


@switch
@pytest.mark.parametrize(("text", "on"), [("1", True), ("true", True), ("Yes", True), ("ON", True), ("0", False),
                                          ("false", False), ("no", False), ("off", False), ("", False)])  # fmt: skip
def test_a_switch_can_be_a_variable(
    short: str, long: str, field: str, text: str, on: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMCACHE_KV_" + field.upper(), text)
    assert getattr(parse([]), field) is on


@switch
def test_a_switch_can_be_a_key_of_the_file(short: str, long: str, field: str, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f"{long[2:]} = true\n")
    assert getattr(parse(["--config", str(config)]), field) is True
    config.write_text(f"{long[2:]} = false\n")
    assert getattr(parse(["--config", str(config)]), field) is False


@pytest.mark.parametrize(
    ("flags", "verbose"), [([], 0), (["-v"], 1), (["-vv"], 2), (["-vvv"], 3), (["-v", "-v"], 2), (["--verbose"], 1)]
)
def test_verbosity_counts_its_flags(flags: list[str], verbose: int) -> None:
    assert parse(flags).verbose == verbose


def test_short_flags_can_be_written_together() -> None:
    settings = parse(["-MAvv", "-p0", "-m128", "-t2"])
    assert (settings.disable_evictions, settings.enable_shutdown, settings.verbose) == (True, True, 2)
    assert (settings.port, settings.memory_limit, settings.threads) == (0, 128 * MIB, 2)


def test_listen_can_be_repeated() -> None:
    assert parse(["-l", "127.0.0.1", "-l", "::1,10.0.0.1:5"]).listen == ("127.0.0.1", "::1", "10.0.0.1:5")


@pytest.mark.parametrize("line", ["listen = ['127.0.0.1', '::1']", "listen = '127.0.0.1,::1'"])
def test_listen_can_be_a_list_in_the_file(line: str, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(line)
    assert parse(["--config", str(config)]).listen == ("127.0.0.1", "::1")


def test_the_last_of_a_repeated_flag_wins() -> None:
    assert parse(["-p", "1", "--port", "2"]).port == 2


def test_flag_wins_over_variable_over_file_over_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "config.toml"
    config.write_text("port = 1\nthreads = 1\nmax-items = 1\n")
    monkeypatch.setenv("MEMCACHE_KV_PORT", "2")
    monkeypatch.setenv("MEMCACHE_KV_THREADS", "2")
    settings = parse(["--config", str(config), "-p", "3"])
    assert (settings.port, settings.threads, settings.max_items, settings.backlog) == (3, 2, 1, 1024)


def test_the_file_can_be_named_by_a_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = tmp_path / "first.toml", tmp_path / "second.toml"
    first.write_text("port = 1")
    second.write_text("port = 2")
    monkeypatch.setenv("MEMCACHE_KV_CONFIG", str(first))
    assert parse([]).port == 1
    assert parse(["--config", str(second)]).port == 2


def test_whether_a_port_was_given_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not parse([]).port_given
    assert parse(["-p", "11211"]).port_given
    monkeypatch.setenv("MEMCACHE_KV_PORT", "11211")
    assert parse([]).port_given


# What is senseless

BAD = [
    ("-p", "70000", EX_USAGE),
    ("-p", "-1", EX_USAGE),
    ("-p", "x", EX_USAGE),
    ("-p", "", EX_USAGE),
    ("-p", "1.5", EX_USAGE),
    ("-p", "9" * 100, EX_USAGE),
    ("-U", "65536", EX_USAGE),
    ("-I", "1", EX_USAGE),
    ("-I", "1023", EX_USAGE),
    ("-I", "2000m", EX_USAGE),
    ("-I", "2g", EX_USAGE),
    ("-I", "33m", EX_USAGE),
    ("-I", "abc", EX_USAGE),
    ("-I", "1t", EX_USAGE),
    ("-I", "-5", EX_USAGE),
    ("-m", "abc", EX_USAGE),
    ("-m", "0", EX_USAGE),
    ("-m", "-64", EX_USAGE),
    ("-m", "64m", EX_USAGE),
    ("-m", "1", EX_USAGE),
    ("-c", "0", 2),
    ("-c", "x", 2),
    ("-t", "0", 2),
    ("-t", "1000", 2),
    ("-R", "0", 2),
    ("-b", "0", 2),
    ("-a", "999", 2),
    ("-D", "", 2),
    ("-D", " ", 2),
    ("-B", "http", EX_USAGE),
    ("-Y", "", 2),
    ("-f", "1", 2),
    ("-f", "big", 2),
    ("-n", "0", 2),
    ("-N", "0", 2),
    ("-N", "x", 2),
    ("-o", "nonsense", 2),
    ("-a", "", 2),
    ("-s", "", 2),
    ("-P", "", 2),
    ("--journal", "", 2),
    ("--fsync", "sometimes", 2),
    ("--fsync", "Always", 2),
    ("--compact-ratio", "1", 2),
    ("--on-rotate", " ", 2),
    ("--rotate-seconds", "-1", 2),
    ("--compact-ratio", "-2", 2),
    ("--compact-ratio", "1000", 2),
    ("--compact-ratio", "often", 2),
    ("--compact-ratio", "nan", 2),
    ("--keep", "-1", 2),
    ("--keep", "all", 2),
    ("--shards", "3", 2),
    ("--shards", "8192", 2),
    ("--max-items", "-1", 2),
    ("--max-items", "many", 2),
]


def refusal(*arguments: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        parse(arguments)
    assert str(caught.value)
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(("flag", "text", "status"), BAD)
def test_a_senseless_value_is_refused_in_one_line(flag: str, text: str, status: int) -> None:
    assert refusal(flag if not flag.startswith("--") else f"{flag}={text}", *([text] * (not flag.startswith("--")))
                   ).status == status  # fmt: skip


def test_a_refusal_names_the_flag_and_the_value() -> None:
    said = str(refusal("-p", "70000"))
    assert "port" in said
    assert "'70000'" in said


@pytest.mark.parametrize("arguments", [["--nonsense"], ["-Q"], ["word"], ["-p"], ["--por", "5"], ["-M=1"]])
def test_a_command_line_that_cannot_be_read_is_refused_in_one_line(arguments: list[str]) -> None:
    assert refusal(*arguments).status == 2


def test_an_unknown_variable_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMCACHE_KV_PROT", "5")
    assert "MEMCACHE_KV_PROT" in str(refusal())


def test_other_variables_are_let_be() -> None:
    assert load_settings({}, None, {"MEMCACHED": "x", "MEMCACHE": "y", "PORT": "5"}) == Settings()


SERVICE = {
    "MEMCACHE_KV_PORT": "tcp://10.0.0.7:11211",
    "MEMCACHE_KV_SERVICE_HOST": "10.0.0.7",
    "MEMCACHE_KV_SERVICE_PORT": "11211",
    "MEMCACHE_KV_SERVICE_PORT_MEMCACHE": "11211",
    "MEMCACHE_KV_PORT_11211_TCP": "tcp://10.0.0.7:11211",
    "MEMCACHE_KV_PORT_11211_TCP_PROTO": "tcp",
    "MEMCACHE_KV_PORT_11211_TCP_PORT": "11211",
    "MEMCACHE_KV_PORT_11211_TCP_ADDR": "10.0.0.7",
}
"""What Kubernetes sets in every container of a namespace with a Service called memcache-kv."""
OTHER_SERVICES = {
    "MEMCACHE_KV_UDP_PORT": "udp://10.0.0.8:11211",
    "MEMCACHE_KV_UDP_SERVICE_HOST": "10.0.0.8",
    "MEMCACHE_KV_METRICS_PORT": "tcp://10.0.0.9:9150",
    "MEMCACHE_KV_METRICS_PORT_9150_TCP_ADDR": "10.0.0.9",
}


@pytest.mark.parametrize("variables", [SERVICE, OTHER_SERVICES, SERVICE | OTHER_SERVICES])
def test_the_variables_of_a_kubernetes_service_are_passed_over_with_one_line(variables: dict[str, str]) -> None:
    said: list[str] = []
    settings = load_settings({}, None, variables | {"MEMCACHE_KV_MEMORY_LIMIT": "100"}, said.append)
    assert settings == Settings(memory_limit=100 * MIB)
    (line,) = said
    assert f"{len(variables)} variables of a Kubernetes Service" in line
    assert min(variables) in line


def test_settings_beside_those_of_a_service_still_count() -> None:
    settings = load_settings({}, None, SERVICE | {"MEMCACHE_KV_UDP_PORT": "5000", "MEMCACHE_KV_PORT": "6000"})
    assert (settings.udp_port, settings.port) == (5000, 6000)


def test_without_a_service_nothing_is_said() -> None:
    said: list[str] = []
    load_settings({"port": "1"}, None, {"MEMCACHE_KV_PORT": "5", "MEMCACHE_KV_SHARDS": "4"}, said.append)
    assert said == []


def test_a_flag_hides_a_bad_variable_and_a_variable_a_bad_line_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config.toml"
    config.write_text("threads = 0\nport = 70000\n")
    monkeypatch.setenv("MEMCACHE_KV_PORT", "x")
    monkeypatch.setenv("MEMCACHE_KV_THREADS", "3")
    settings = parse(["--config", str(config), "-p", "5"])
    assert (settings.port, settings.threads) == (5, 3)


@pytest.mark.parametrize("value", ["always", "everysec", "never"])
def test_fsync_without_a_journal_is_accepted_with_a_warning(value: str) -> None:
    said: list[str] = []
    load_settings({"fsync": value}, None, NO_ENVIRONMENT, said.append)
    (line,) = said
    assert "--fsync has no effect without --journal" in line
    load_settings({"fsync": value, "journal": "/tmp/data"}, None, NO_ENVIRONMENT, said.append)
    assert said == [line]


@pytest.mark.parametrize("flag", ["-e", "--memory-file"])
def test_a_file_of_memory_is_refused_with_what_to_do_instead(flag: str) -> None:
    error = refusal(flag, "/tmp/memory")
    assert "--journal" in str(error)
    assert error.status == EX_USAGE


def test_a_bad_variable_is_refused_with_its_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMCACHE_KV_PORT", "x")
    assert str(refusal()).startswith("environment, port: ")


BAD_FILES = [
    ("prot = 5", "'prot'"),
    ("port = 70000", "70000"),
    ("port = [1]", "port"),
    ("port = true", "port"),
    ("verbose = true", "verbosity"),
    ("port = {a = 1}", "port"),
    ("port 5", "not TOML"),
    ("port = " + "9" * 5000, "not TOML"),
    ("port = " + "[" * 100_000, "nested too deeply"),
    ("[section]\nport = 5", "'section'"),
    ("journal = ''", "journal"),
    ('journal = "a\\u0000b"', "journal"),
    ("daemon = 'maybe'", "daemon"),
    ("config = 'other.toml'", "'config'"),
]


@pytest.mark.parametrize(("text", "part"), BAD_FILES)
def test_a_bad_file_is_refused_and_says_where(text: str, part: str, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(text)
    error = refusal("--config", str(config))
    assert part in str(error)
    assert "--config" in str(error)


def test_a_number_for_an_address_is_taken_as_text(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text("listen = 5\n")
    assert parse(["--config", str(config)]).listen == ("5",)


def test_a_file_that_is_not_there_or_no_text_is_refused(tmp_path: Path) -> None:
    assert "can't read" in str(refusal("--config", str(tmp_path / "none.toml")))
    assert "can't read" in str(refusal("--config", str(tmp_path)))
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\x00")
    assert "not TOML" in str(refusal("--config", str(binary)))


def test_an_item_may_take_half_of_the_memory() -> None:
    assert parse(["-m", "64", "-I", "32m"]).max_item_size == 32 * MIB
    assert "1/2" in str(refusal("-m", "64", "-I", "33m"))


def test_a_delimiter_turns_the_counts_per_prefix_on() -> None:
    assert not parse([]).detail_enabled
    assert parse([]).stats_delimiter == ":"
    assert parse(["-D", ":"]).detail_enabled


def test_a_udp_port_alone_is_the_tcp_port_too() -> None:
    assert parse(["-U", "5000"]).port == 5000
    assert parse(["-U", "5000", "-p", "6000"]).port == 6000
    assert parse(["-U", "0"]).port == 11211


def test_the_file_for_the_ports_is_memcacheds_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse([]).port_file is None
    monkeypatch.setenv("MEMCACHED_PORT_FILENAME", "/tmp/ports")
    assert parse([]).port_file == Path("/tmp/ports")


def test_a_login_makes_the_protocol_ascii() -> None:
    assert parse(["-Y", "users"]).binding_protocol == "ascii"
    assert parse(["-Y", "users", "-B", "ascii"]).binding_protocol == "ascii"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-B", "auto"], "You cannot allow the BINARY protocol while using ascii authentication tokens."),
        (["-U", "5000"], "Cannot use UDP with ascii authentication enabled (-U 0 to disable)"),
    ],
)
def test_what_a_login_cannot_guard_is_refused(arguments: list[str], said: str) -> None:
    error = refusal("-Y", "users", *arguments)
    assert said in str(error)
    assert error.status == EX_USAGE


@pytest.mark.parametrize("flag", ["-S", "--enable-sasl"])
@pytest.mark.parametrize(
    ("arguments", "protocol"),
    [
        (["-Y", "users"], "auto"),
        (["-Y", "users", "-B", "auto"], "auto"),
        (["-Y", "users", "-B", "binary"], "binary"),
    ],
)
def test_both_logins_are_for_both_protocols(flag: str, arguments: list[str], protocol: str) -> None:
    settings = parse([flag, *arguments])
    assert (settings.enable_sasl, settings.binding_protocol, settings.auth_file) == (True, protocol, Path("users"))


def test_sasl_alone_takes_memcacheds_file_of_users_and_is_binary(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse([]).auth_file is None
    monkeypatch.setenv("MEMCACHED_SASL_PWDB", "/tmp/users")
    settings = parse(["-S"])
    assert (settings.binding_protocol, settings.auth_file) == ("binary", Path("/tmp/users"))
    assert parse(["-S", "-Y", "/tmp/others"]).auth_file == Path("/tmp/others")
    assert parse([]).auth_file is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-S"], "-S needs a users file"),
        (["-S", "-Y", "users", "-B", "ascii"], "You cannot allow the ASCII protocol while using SASL."),
        (["-S", "-Y", "users", "-U", "5000"], "Cannot enable UDP while using binary SASL authentication."),
        (["-l", "127.0.0.1,mtls:127.0.0.1:5"], "'mtls' option is valid only when SSL is enabled"),
        (["-l", "notls:127.0.0.1:5"], "'notls' option is valid only when SSL is enabled"),
    ],
)
def test_what_does_not_go_together_is_refused_in_memcacheds_words(
    arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MEMCACHED_SASL_PWDB", raising=False)
    error = refusal(*arguments)
    assert said in str(error)
    assert error.status == EX_USAGE
