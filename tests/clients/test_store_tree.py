"""A small tree with every kind of file, stored, verified, and carried over a crash."""

import os
import zlib
from pathlib import Path

import pytest
from pymemcache.client.base import Client  # type: ignore[import-untyped]

from clients.local_server import LocalServer
from clients.store_tree import BINARY, TEXT, Expiry, expiry_of, flags_of, key_of, size_arguments
from tests.clients.programs import run_program


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Make a tree of text, binary, empty and big files, some of them for each kind of expiry."""
    root = tmp_path / "tree"
    (root / "deep/er").mkdir(parents=True)
    (root / "__pycache__").mkdir()
    (root / "__pycache__/left.pyc").write_bytes(b"out")
    (root / "text.txt").write_text("Grüße\n")
    (root / "deep/binary").write_bytes(bytes(range(256)))
    (root / "deep/er/empty").write_bytes(b"")
    (root / "deep/er/big").write_bytes(b"\r\nEND\r\n\xff" * 25_000)
    (root / "white space").write_text("VALUE a 0 1\r\n")
    (root / ("n" * 200)).mkdir()
    (root / ("n" * 200) / ("x" * 100)).write_text("a long path")
    for number in range(60):
        (root / f"file{number}").write_text(str(number) * number)
    return root


def test_the_tree_of_these_tests_has_files_of_every_expiry(tree: Path) -> None:
    keys = {key_of(os.fsencode(path.relative_to(tree))) for path in tree.rglob("*") if path.is_file()}
    assert {expiry_of(key) for key in keys} == set(Expiry)


def test_store_and_verify_agree(server: LocalServer, tree: Path) -> None:
    address = str(server.address)
    stored = run_program("store_tree.py", "store", "--server", address, "--tree", str(tree), "--soon", "3")
    assert (stored.returncode, stored.stderr) == (0, "")
    verified = run_program("store_tree.py", "verify", "--server", address, "--tree", str(tree))
    assert (verified.returncode, verified.stderr) == (0, "")


def test_verify_finds_a_lost_a_changed_and_a_wrongly_flagged_file(server: LocalServer, tree: Path) -> None:
    address = str(server.address)
    run_program("store_tree.py", "store", "--server", address, "--tree", str(tree), "--soon", "1")
    lasting = [key for key in map("file{}".format, range(60)) if expiry_of(key) is not Expiry.SOON]
    client = Client(server.address.for_pymemcache(), default_noreply=False)
    client.delete(lasting[0])
    client.append(lasting[1], b"x")
    content = (tree / lasting[2]).read_bytes()
    client.set(lasting[2], content, flags=flags_of(content) ^ 1 << 31)
    client.close()
    verified = run_program("store_tree.py", "verify", "--server", address, "--tree", str(tree))
    assert verified.returncode == 1
    assert f"{lasting[0]}: missing" in verified.stdout
    assert f"{lasting[1]}: its " in verified.stdout
    assert f"{lasting[2]}: flags " in verified.stdout


def test_verify_without_store_says_so(server: LocalServer, tree: Path) -> None:
    done = run_program("store_tree.py", "verify", "--server", str(server.address), "--tree", str(tree))
    assert done.returncode == 1
    assert "run `store` first" in done.stdout


def test_a_file_over_the_item_limit_is_reported(server: LocalServer, tree: Path) -> None:
    (tree / "huge").write_bytes(b"x" * (2 << 20))
    done = run_program("store_tree.py", "store", "--server", str(server.address), "--tree", str(tree))
    assert done.returncode == 1
    assert "huge: " in done.stdout
    assert "larger -I" in done.stdout


@pytest.mark.long
def test_the_demo_finds_all_equal_after_kill_9(tree: Path) -> None:
    done = run_program("store_tree.py", "demo", "--tree", str(tree), "--soon", "6")
    assert (done.returncode, done.stderr) == (0, "")
    assert "killed with SIGKILL" in done.stdout
    assert done.stdout.splitlines()[-1] == "all equal"


@pytest.mark.parametrize("program", ["store_tree.py", "load_uuids.py"])
@pytest.mark.parametrize("package", ["pymemcache", "rich"])
def test_without_a_package_one_line_says_what_to_install(program: str, package: str) -> None:
    done = run_program(program, "demo", without=package)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"{package} is not installed: pip install '.[clients]' in a clone of memcache_kv, or pip install {package}\n"
    )


def test_a_server_that_does_not_start_is_reported(tree: Path) -> None:
    done = run_program("store_tree.py", "demo", "--tree", str(tree), "--command", "false")
    assert done.returncode == 1
    assert "the server ended with status 1; run it by hand" in done.stderr


@pytest.mark.parametrize(
    ("path", "key"),
    [
        (b"lib/os.py", "lib/os.py"),
        (b"white space\tand\n", "white%20space%09and%0A"),
        (b"100%", "100%25"),
        ("Grüße".encode(), "Gr%C3%BC%C3%9Fe"),
        (b"\xff", "%FF"),
        (b"a" * 250, "a" * 250),
    ],
)
def test_a_key_is_the_path_with_what_keys_cannot_hold_encoded(path: bytes, key: str) -> None:
    assert key_of(path) == key


def test_a_long_path_is_hashed_and_keeps_its_end() -> None:
    key = key_of(b"a" * 300 + b"/end.py")
    assert len(key) == 250
    assert key.startswith("sha256:")
    assert key.endswith("aaa/end.py")
    assert key != key_of(b"b" * 300 + b"/end.py")


def test_flags_tell_the_kind_and_hold_the_checksum() -> None:
    assert flags_of(b"text") & 3 == TEXT
    assert flags_of(b"\xff\xfe") & 3 == BINARY
    assert flags_of(b"text") >> 2 == zlib.crc32(b"text") >> 2


def test_the_demo_sizes_its_server_by_the_tree(tree: Path) -> None:
    assert size_arguments(tree) == ["-I", "1m", "-m", "65"]
    (tree / "huge").write_bytes(b"x" * (5 << 20))
    assert size_arguments(tree)[:2] == ["-I", "6m"]
