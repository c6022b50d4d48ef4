"""The admin token: which files have one, and which requests have it."""

from pathlib import Path

import pytest

from memcache_kv.auth.admin_token import AdminToken
from memcache_kv.errors import ConfigError

TOKEN = b"s3cret-Token/with+signs="


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_bytes(TOKEN + b"\n")
    return path


@pytest.mark.parametrize("header", [b"Bearer " + TOKEN, b"bearer " + TOKEN, b"BEARER   " + TOKEN + b"  "])
def test_a_header_with_the_token_matches(path: Path, header: bytes) -> None:
    assert AdminToken(path).matches(header)


@pytest.mark.parametrize(
    "header",
    [b"", b"Bearer", b"Bearer ", TOKEN, b"Basic " + TOKEN, b"Bearer " + TOKEN[:-1], b"Bearer " + TOKEN + b"x",
     b"Bearer " + TOKEN.swapcase(), b"Bearer \xff\x00", b"Bearer " + TOKEN + b" " + TOKEN],
)  # fmt: skip
def test_any_other_header_does_not(path: Path, header: bytes) -> None:
    assert not AdminToken(path).matches(header)


def test_the_file_can_be_read_again(path: Path) -> None:
    token = AdminToken(path)
    path.write_bytes(b"another")
    assert token.matches(b"Bearer " + TOKEN)
    token.reload()
    assert token.matches(b"Bearer another")
    assert not token.matches(b"Bearer " + TOKEN)


@pytest.mark.parametrize("content", [b"", b" \n", b"two words", b"two\nlines", b"\xc3\xa9", b"a\x00b", b"x" * 4097])
def test_a_file_without_one_token_is_rejected_and_the_old_one_kept(path: Path, content: bytes) -> None:
    token = AdminToken(path)
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="has no admin token"):
        token.reload()
    assert token.matches(b"Bearer " + TOKEN)


def test_a_missing_file_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"can't read the admin token in .*: No such file or directory"):
        AdminToken(tmp_path / "none")
