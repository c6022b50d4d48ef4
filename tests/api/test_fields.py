"""Settings as keyword arguments of a server and of a store."""

from pathlib import Path
from typing import Any

import pytest

from memcache_kv import ConfigError, Fsync, Server, Settings, Store


def test_a_server_listens_on_a_free_port_of_loopback_if_not_told() -> None:
    settings = Server().settings
    assert (settings.port, settings.listen) == (0, ("127.0.0.1",))
    assert Server(memory_limit=8 << 20).settings.memory_limit == 8 << 20


def test_one_part_of_the_address_may_be_given_alone(tmp_path: Path) -> None:
    found = [Server(port=1234).settings, Server(listen="0.0.0.0").settings]
    assert [(each.port, each.listen) for each in found] == [(1234, ("127.0.0.1",)), (0, ("0.0.0.0",))]
    path = tmp_path / "socket"
    assert (Server(unix_socket=path).settings.listen, Server(unix_socket=path).settings.unix_socket) == ((), path)


def test_values_may_be_texts_where_these_say_the_same() -> None:
    settings = Server(journal="data", fsync="always", listen=["127.0.0.1", "::1"], compact_ratio=3).settings
    assert (settings.journal, settings.fsync, settings.compact_ratio) == (Path("data"), Fsync.ALWAYS, 3.0)
    assert settings.listen == ("127.0.0.1", "::1")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"memory_limt": 1}, "memory_limt is not a setting; do you mean memory_limit?"),
        ({"xyzzy": 1}, "xyzzy is not a setting"),
        ({"memory_limit": "64"}, "memory_limit must be of type int, not '64'"),
        ({"memory_limit": True}, "memory_limit must be of type int, not True"),
        ({"disable_cas": 1}, "disable_cas must be of type bool, not 1"),
        ({"memory_limit": -1}, "memory_limit must not be negative, but is -1"),
        ({"memory_limit": None}, "memory_limit must be of type int, not None"),
        ({"fsync": "often"}, "fsync can't be 'often'"),
        ({"journal": 5}, "journal can't be 5"),
        ({"max_item_size": 64 << 20}, "Cannot set item size limit higher than 1/2 of memory max."),
        ({"user": "nobody"}, "user is for the program memcache-kv alone: it is the process that it would change"),
        ({"log_file": "log"}, "log_file is for the program memcache-kv alone"),
    ],
)
def test_what_can_not_be_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Server(**fields)
    assert str(caught.value).startswith(words)


def test_a_store_takes_no_settings_of_a_server() -> None:
    assert Store(memory_limit=8 << 20, max_items=5).settings.max_items == 5
    with pytest.raises(ConfigError, match=r"^port is a setting of a server: a store has compact, compact_ratio, "):
        Store(port=0)
    with pytest.raises(ConfigError, match=r"^prt is not a setting; do you mean port\?"):
        Store(prt=0)


@pytest.mark.parametrize("kind", [Server, Store])
def test_given_settings_are_taken_as_they_are_and_alone(kind: type[Server] | type[Store]) -> None:
    settings = Settings(max_items=5)
    assert kind(settings).settings is settings
    with pytest.raises(ConfigError, match=r"^shards was given beside settings"):
        kind(settings, shards=4)
    with pytest.raises(ConfigError, match="1/2 of memory max"):
        kind(Settings(max_item_size=64 << 20))
