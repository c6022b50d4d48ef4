"""A fault meets the requests that it is meant for, and the same ones for the same seed."""

import re

import pytest

from memcache_kv.testing.faults import KeyPattern
from memcache_kv.testing.faults.selection import Selection
from memcache_kv.traffic.wire import WireRequest


def request(command: str, *keys: bytes) -> WireRequest:
    """Make a request."""
    return WireRequest(command, keys, b"", True)


def test_without_conditions_all_are_met() -> None:
    assert Selection().takes(request("version"))
    assert Selection().takes(request("get", b"a"))


@pytest.mark.parametrize("commands", ["get", ["get"], {"get", "mg"}])
def test_only_the_commands_that_are_named_are_met(commands: str | list[str] | set[str]) -> None:
    selection = Selection(commands)
    assert selection.takes(request("get", b"a"))
    assert not selection.takes(request("gets", b"a"))


@pytest.mark.parametrize(
    ("pattern", "fitting", "others"),
    [
        ("user:*", [b"user:", b"user:1"], [b"a user:1", b"users", b"User:1"]),
        (b"user:*", [b"user:1"], [b"a user:1"]),
        ("u?er[12]", [b"user1", b"uzer2"], [b"user3", b"user12"]),
        ("ключ*", ["ключ1".encode()], [b"key"]),
        (re.compile("r:[0-9]"), [b"user:1", b"r:12"], [b"user:a"]),
        (re.compile("^USER", re.IGNORECASE), [b"user:1"], [b"a user"]),
        (re.compile(rb"\xff$"), [b"a\xff"], [b"\xffa"]),
        (re.compile("ключ"), ["мой ключ".encode()], [b"key"]),
    ],
    ids=repr,
)
def test_a_pattern_fits_keys(pattern: KeyPattern, fitting: list[bytes], others: list[bytes]) -> None:
    selection = Selection(keys=pattern)
    assert all(selection.fits(key) for key in fitting)
    assert not any(selection.fits(key) for key in others)


def test_one_key_that_fits_is_enough_and_without_keys_nothing_fits() -> None:
    selection = Selection(keys="a*")
    assert selection.takes(request("get", b"b", b"ab"))
    assert not selection.takes(request("get", b"b"))
    assert not selection.takes(request("version"))


def test_a_part_of_the_requests_is_met_and_the_same_ones_for_the_same_seed() -> None:
    one, same, other = (Selection(probability=0.3, seed=seed) for seed in (1, 1, 2))
    picks = [[selection.takes(request("get")) for _ in range(1000)] for selection in (one, same, other)]
    assert picks[0] == picks[1] != picks[2]
    assert 250 < sum(picks[0]) < 350
    never = Selection(probability=0)
    assert not any(never.takes(request("get")) for _ in range(100))


@pytest.mark.parametrize("probability", [-0.1, 1.1])
def test_a_probability_that_cannot_be_is_refused(probability: float) -> None:
    with pytest.raises(ValueError, match="from 0 to 1"):
        Selection(probability=probability)
