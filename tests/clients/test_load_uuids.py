"""The load of small items: its keys, its counting, and its demo over a crash."""

import uuid

import pytest
from pymemcache.client.base import Client  # type: ignore[import-untyped]

from clients.local_server import LocalServer, default_command
from clients.rows import VALUE_BYTES, keys_from, value_of
from tests.clients.programs import run_program
from tests.ports import free_port


def test_keys_are_distinct_uuids_and_the_same_for_a_seed() -> None:
    keys = list(keys_from(1, 1000))
    assert keys == list(keys_from(1, 1000))
    assert keys != list(keys_from(2, 1000))
    assert len(set(keys)) == 1000
    assert all(uuid.UUID(key).version == 4 for key in keys)


def test_a_value_depends_on_its_key_alone() -> None:
    first, second = keys_from(1, 2)
    assert len(value_of(first)) == VALUE_BYTES
    assert value_of(first) == value_of(first) != value_of(second)


def test_store_counts_acknowledgements_and_check_finds_them(server: LocalServer) -> None:
    address = str(server.address)
    stored = run_program("load_uuids.py", "store", "--server", address, "-n", "2500")
    assert stored.returncode == 0
    assert stored.stdout.startswith("2,500 items acknowledged in ")
    checked = run_program("load_uuids.py", "check", "--server", address, "-n", "2500", "--sample", "300")
    assert checked.returncode == 0
    assert checked.stdout == "300 of 300 equal, 0 missing, 0 different\n"


def test_check_finds_a_missing_and_a_different_item(server: LocalServer) -> None:
    address = str(server.address)
    run_program("load_uuids.py", "store", "--server", address, "-n", "100")
    first, second, *_ = keys_from(1, 100)
    client = Client(server.address.for_pymemcache(), default_noreply=False)
    client.delete(first)
    client.set(second, b"other")
    client.close()
    checked = run_program("load_uuids.py", "check", "--server", address, "-n", "100")
    assert checked.returncode == 1
    counts, about_missing = checked.stdout.splitlines()
    assert counts == "98 of 100 equal, 1 missing, 1 different"
    assert about_missing.startswith("The server has evicted nothing since its start: ")


def test_check_says_that_items_were_evicted_and_what_to_do() -> None:
    with LocalServer(default_command(), ["--max-items", "1000"]) as server:
        address = str(server.address)
        stored = run_program("load_uuids.py", "store", "--server", address, "-n", "3000")
        assert stored.returncode == 0
        checked = run_program("load_uuids.py", "check", "--server", address, "-n", "3000", "--sample", "3000")
    assert checked.returncode == 1
    counts, about_missing = checked.stdout.splitlines()
    evicted = 3000 - int(counts.split()[0].replace(",", ""))
    assert evicted >= 2000
    assert about_missing.startswith(f"The server has evicted {evicted:,} items since its start, ")
    assert "-m 64 or --max-items" in about_missing


def test_without_a_server_one_line_says_what_to_do() -> None:
    done = run_program("load_uuids.py", "store", "--server", f"127.0.0.1:{free_port()}", "-n", "1")
    assert done.returncode == 1
    assert done.stderr.startswith("cannot connect to ")
    assert done.stderr.count("\n") == 1


@pytest.mark.long
def test_the_demo_finds_all_items_after_kill_9() -> None:
    done = run_program("load_uuids.py", "demo", "-n", "2000")
    assert (done.returncode, done.stderr) == (0, "")
    assert "2,000 of 2,000 equal, 0 missing, 0 different" in done.stdout
    assert "start to first answer" in done.stdout
