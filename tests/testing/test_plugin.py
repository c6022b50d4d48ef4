"""The plugin within runs of pytest: fixtures, options, reports."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from memcache_kv import Server
from memcache_kv.testing import cluster, memcached, process  # noqa: F401  pytester forgets what is first imported in it
from memcache_kv.testing.faults import fault  # noqa: F401
from memcache_kv.testing.servers import in_process, program  # noqa: F401
from tests.ports import free_port
from tests.testing.programs import memcached_program

pytest_plugins = ["pytester"]

QUICK = ("-p", "memcache_kv.testing.plugin", "-p", "no:cacheprovider")
"""For runs without the other plugins of this environment."""


@pytest.fixture(autouse=True)
def _no_other_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


@pytest.fixture
def running() -> Iterator[Server]:
    """A server that runs already, with an item."""
    with Server() as server:
        server.store.set("old", b"1")
        yield server


def run(pytester: pytest.Pytester, code: str, *options: str) -> pytest.RunResult:
    """Run tests in this process."""
    pytester.makepyfile(code)
    return pytester.runpytest_inprocess(*QUICK, "-rs", *options)


# Isolation


def test_each_test_has_the_same_server_empty_and_a_session_client_survives(pytester: pytest.Pytester) -> None:
    found = run(
        pytester,
        """
        from pymemcache.client.base import Client
        import pytest

        @pytest.fixture(scope="session")
        def of_the_session(memcached_proc):
            client = Client(memcached_proc.address)
            yield client
            client.close()

        @pytest.mark.parametrize("number", range(5))
        def test_is_empty(memcached, memcached_proc, of_the_session, number):
            assert memcached.address == memcached_proc.address
            assert len(memcached.store) == 0
            assert memcached.calls == []
            assert memcached.stats()["cmd_set"] == "0"
            for each in range(200):
                of_the_session.set(f"{number}-{each}", "v" * 100, noreply=True)
        """,
    )
    found.assert_outcomes(passed=5)


def test_what_administrative_commands_changed_is_undone(pytester: pytest.Pytester) -> None:
    found = run(
        pytester,
        """
        import pytest

        NAMES = ("maxbytes", "verbosity", "detail_enabled", "lru_crawler", "lru_crawler_sleep", "lru_crawler_tocrawl")
        COMMANDS = [b"cache_memlimit 100", b"verbosity 2", b"stats detail on", b"lru_crawler disable",
                    b"lru_crawler sleep 5000", b"lru_crawler tocrawl 7", b"flush_all 100"]
        seen = []

        @pytest.mark.parametrize("round", range(2))
        def test_settings(memcached, round):
            seen.append({name: memcached.stats("settings")[name] for name in NAMES})
            client = memcached.client()
            for command in COMMANDS:
                client.raw_command(command)
            changed = {name: memcached.stats("settings")[name] for name in NAMES}
            assert all(changed[name] != seen[0][name] for name in NAMES)
            assert seen[-1] == seen[0]
        """,
    )
    found.assert_outcomes(passed=2)


def test_a_server_that_a_test_shut_down_runs_again(pytester: pytest.Pytester) -> None:
    found = run(
        pytester,
        """
        import pytest
        from pymemcache.exceptions import MemcacheUnexpectedCloseError

        @pytest.mark.parametrize("round", range(2))
        def test_shutdown(memcached, round):
            client = memcached.client()
            client.set("a", 1)
            with pytest.raises(MemcacheUnexpectedCloseError):
                client.raw_command(b"shutdown")
        """,
        "--memcached-args=-A",
    )
    found.assert_outcomes(passed=2)


# Options


def test_an_argument_wins_over_the_command_line_and_that_over_the_ini_file(pytester: pytest.Pytester) -> None:
    ports = [free_port() for _ in range(3)]
    pytester.makeini(f"[pytest]\nmemcached_port = {ports[0]}\nmemcached_args = -m 128")
    code = f"""
        from memcache_kv.testing import factories

        mine_proc = factories.memcached_proc(port={ports[2]}, args="-m 512")
        mine = factories.memcached("mine_proc")

        def of(memcached):
            return memcached.port, int(memcached.stats("settings")["maxbytes"]) >> 20

        def test_given(memcached, expected):
            assert of(memcached) == expected

        def test_argument(mine):
            assert of(mine) == ({ports[2]}, 512)
    """
    for options, expected in (
        ((), (ports[0], 128)),
        ((f"--memcached-port={ports[1]}", "--memcached-args=-m 256"), (ports[1], 256)),
        (("--memcached-args=",), (ports[0], 64)),
    ):
        pytester.makeconftest(f"import pytest\n\n@pytest.fixture\ndef expected():\n    return {expected}")
        run(pytester, code, *options).assert_outcomes(passed=2)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--memcached-port=x", "*--memcached-port can't be 'x': *"),
        ("--memcached-port=70000", "*--memcached-port can't be '70000': a port is a number from 0 to 65535"),
        ("--memcached-clock=none", "*--memcached-clock can't be 'none': it is patched or real"),
        ("--memcached-args=--nonsense", "*a server can't have the flags '--nonsense': *"),
        ("--memcached-args=-d", "*a server can't have the flags '-d': --daemon changes the process, which is pytest's"),
        ("--memcached-args=-m '", "*a server can't have the flags *"),
        ("--memcached-exec=/nowhere", "/nowhere can't be run: No such file or directory"),
        ("--memcached-exec=/bin/false", "/bin/false ended before it answered; it said: nothing"),
        ("--memcached-host=192.0.2.1", "*clients can't connect to 192.0.2.1:0: *"),
    ],
)
def test_an_option_that_cannot_be_is_an_error_of_the_fixture(
    pytester: pytest.Pytester, option: str, message: str
) -> None:
    found = run(pytester, "def test_any(memcached): pass", option)
    found.assert_outcomes(errors=1)
    found.stdout.fnmatch_lines([message])


def test_a_port_that_somebody_has_is_an_error(pytester: pytest.Pytester, running: Server) -> None:
    found = run(pytester, "def test_any(memcached): pass", f"--memcached-port={running.port}")
    found.assert_outcomes(errors=1)
    found.stdout.fnmatch_lines([f"*clients can't connect to 127.0.0.1:{running.port}: Address already in use; *"])


def test_clients_may_use_another_address(pytester: pytest.Pytester) -> None:
    code = "def test_any(memcached):\n    assert memcached.url == f'memcached://[::1]:{memcached.port}'\n"
    code += "    assert memcached.client().version().startswith(b'1.')"
    run(pytester, code, "--memcached-host=::1").assert_outcomes(passed=1)


def test_a_server_follows_a_patched_clock_unless_an_option_says_no(pytester: pytest.Pytester) -> None:
    pytest.importorskip("freezegun")
    code = """
        from freezegun import freeze_time
        from memcache_kv.testing import factories

        apart_proc = factories.memcached_proc(clock="real")
        apart = factories.memcached("apart_proc")

        def found(memcached):
            client = memcached.client()
            with freeze_time("2030-01-01") as frozen:
                client.set("a", "1", expire=60)
                frozen.tick(61)
                return client.get("a")

        def test_patched(memcached):
            assert found(memcached) is None

        def test_real(apart):
            assert found(apart) == b"1"
        """
    run(pytester, code).assert_outcomes(passed=2)


# Other servers


def test_a_running_server_is_emptied_and_goes_on(pytester: pytest.Pytester, running: Server) -> None:
    found = run(
        pytester,
        f"""
        from memcache_kv.testing import factories

        running_proc = factories.memcached_noproc(port={running.port})
        memcached = factories.memcached("running_proc")

        def test_use(memcached):
            assert memcached.client().get("old") is None
            memcached.client().set("new", "1")
            assert [call.request.command for call in memcached.calls] == ["get", "set"]
            assert memcached.stats()["cmd_get"] == "1"

        def test_store(memcached):
            memcached.store
        """,
    )
    found.assert_outcomes(passed=1, skipped=1)
    found.stdout.fnmatch_lines(["*memcached.store needs the server in pytest's process, and this is the running*"])
    assert running.is_running
    assert "old" not in running.store


def test_where_no_server_runs_the_error_says_so(pytester: pytest.Pytester) -> None:
    port = free_port()
    found = run(pytester, "def test_any(memcached_noproc): pass", f"--memcached-port={port}")
    found.assert_outcomes(errors=1)
    found.stdout.fnmatch_lines([f"no memcached answers at 127.0.0.1:{port} (*Connection refused); start one, or say *"])


def test_a_program_runs_under_the_same_fixtures_and_what_it_cannot_do_is_skipped(pytester: pytest.Pytester) -> None:
    found = run(
        pytester,
        """
        import pytest

        @pytest.mark.parametrize("round", range(2))
        def test_use(memcached, round):
            client = memcached.client()
            assert client.get("a") is None
            client.set("a", "1")
            assert client.get("a") == b"1"
            assert memcached.stats()["cmd_get"] == "2"
            assert memcached.stats("settings")["verbosity"] == "0"
            client.raw_command(b"verbosity 1")
            with memcached.fault("miss"):
                assert client.get("a") is None

        def test_cluster(memcached_cluster):
            assert len({node.stats()["pid"] for node in memcached_cluster(2)}) == 2

        def test_store(memcached):
            memcached.store

        def test_fault(memcached):
            memcached.fault("forget")
        """,
        f"--memcached-exec={memcached_program()}",
        "--memcached-args=-m 32",
    )
    found.assert_outcomes(passed=3, skipped=2)
    found.stdout.fnmatch_lines(
        [
            "*memcached.store needs the server in pytest's process, and this is /*",
            "*the fault forget needs the server in pytest's process, and this is /*",
        ]
    )


def test_the_ini_file_is_found_beside_the_path_of_a_program(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the plugin's entry point, which pytest loads after it has chosen the ini file."""
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
    pytester.makeini("[pytest]\nmemcached_args = -m 32\n")
    pytester.makepyfile("def test_any(memcached): assert memcached.stats('settings')['maxbytes'] == str(32 << 20)")
    found = pytester.runpytest_subprocess(f"--memcached-exec={memcached_program()}")
    found.assert_outcomes(passed=1)


# Reports


def test_the_report_of_a_failed_test_shows_what_the_server_saw(pytester: pytest.Pytester) -> None:
    found = run(
        pytester,
        """
        def test_fails(memcached, memcached_cluster):
            memcached.client().set("user:1", "hello")
            memcached.client().get("user:2")
            memcached_cluster(2)[1].client().touch("other")
            assert False

        def test_passes(memcached):
            memcached.client().set("silent", "1")
        """,
    )
    found.assert_outcomes(passed=1, failed=1)
    found.stdout.fnmatch_lines(
        [
            "*- memcached 127.0.0.1:* -*",
            "commands: 2; seconds since the test began, #connection, command -> reply",
            "*.??? s  #*  set user:1 0 0 5 | hello  ->  STORED",
            "*.??? s  #*  get user:2                ->  END",
            "*- memcached 127.0.0.1:* -*",
            "commands: 0; *",
            "*- memcached 127.0.0.1:* -*",
            "commands: 1; *",
            "*  touch other 0  ->  NOT_FOUND",
        ]
    )
    assert "silent" not in found.stdout.str()


def test_a_test_that_fails_in_a_fixture_has_the_report_too(pytester: pytest.Pytester) -> None:
    found = run(
        pytester,
        """
        import pytest

        @pytest.fixture
        def filled(memcached):
            memcached.client().set("filled", "1")
            raise OSError

        def test_any(filled): pass
        """,
    )
    found.assert_outcomes(errors=1)
    found.stdout.fnmatch_lines(["*set filled 0 0 1 | 1  ->  STORED"])


# Other processes


def test_pytest_loads_the_plugin_which_imports_no_server_before_a_fixture_is_used(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_imports(pytestconfig):
            assert pytestconfig.pluginmanager.has_plugin("memcache_kv")
            ours = sorted(name for name in sys.modules if name.startswith("memcache_kv"))
            assert ours == ["memcache_kv", "memcache_kv.testing", "memcache_kv.testing.factories",
                            "memcache_kv.testing.plugin", "memcache_kv.testing.plugin_options", "memcache_kv.version"]
            assert not {"asyncio", "ssl", "msgspec", "pymemcache"} & set(sys.modules)
        """
    )
    command = [sys.executable, "-m", "pytest", "-p", "memcache_kv"]  # the plugin, by the name of its entry point
    done = subprocess.run(command, cwd=pytester.path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.long
@pytest.mark.timeout(300)
def test_each_worker_of_xdist_has_a_server_and_a_shared_one_is_taken_in_turns(
    pytester: pytest.Pytester, running: Server
) -> None:
    pytester.makepyfile(
        """
        import os
        import time
        import pytest
        from pathlib import Path
        from memcache_kv.testing import factories

        shared = factories.memcached("memcached_noproc")

        @pytest.mark.parametrize("number", range(8))
        def test_own(memcached_proc, number):
            worker = os.environ["PYTEST_XDIST_WORKER"]
            Path(f"{worker}-{memcached_proc.server.port}").touch()

        @pytest.mark.parametrize("number", range(20))
        def test_shared(shared, number):
            client = shared.client()
            for each in range(20):
                client.set(f"{number}-{each}", "1")
            assert client.stats()[b"curr_items"] == 20
        """
    )
    pytester.makeini(f"[pytest]\nmemcached_port = {running.port}")
    command = [sys.executable, "-m", "pytest", "-p", "xdist", "-p", "memcache_kv", "-n", "2", "--dist=load"]
    fixed = subprocess.run(command, cwd=pytester.path, capture_output=True, text=True, check=False)
    assert "20 passed, 8 errors" in fixed.stdout, fixed.stdout
    assert f"they can't all have the port {running.port}: leave it out" in fixed.stdout
    own = [*command, "-k", "own", "--memcached-port=0"]
    done = subprocess.run(own, cwd=pytester.path, capture_output=True, text=True, check=False)
    assert "8 passed" in done.stdout, done.stdout
    assert sorted(path.name[:3] for path in pytester.path.glob("gw*")) == ["gw0", "gw1"]
    assert len({path.name[4:] for path in pytester.path.glob("gw*")}) == 2
