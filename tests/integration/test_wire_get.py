"""get, gets, gat and gats, byte for byte."""

from tests.integration.wire import Wire


def store(wire: Wire, key: bytes, value: bytes, flags: int = 0) -> None:
    """Put a value there."""
    wire.expect(b"set %b %d 0 %d\r\n%b\r\n" % (key, flags, len(value), value), b"STORED\r\n")


def test_get_returns_the_value_with_its_flags(wire: Wire) -> None:
    store(wire, b"get-one", b"value", flags=17)
    wire.expect(b"get get-one\r\n", b"VALUE get-one 17 5\r\nvalue\r\nEND\r\n")


def test_get_of_nothing_is_only_the_end(wire: Wire) -> None:
    wire.expect(b"get nothing\r\n", b"END\r\n")


def test_get_of_several_keys_gives_those_that_are_there_in_the_order_asked(wire: Wire) -> None:
    store(wire, b"m1", b"one", flags=1)
    store(wire, b"m2", b"two", flags=2)
    wire.expect(b"get m2 nothing m1\r\n", b"VALUE m2 2 3\r\ntwo\r\nVALUE m1 1 3\r\none\r\nEND\r\n")


def test_a_key_asked_twice_is_given_twice(wire: Wire) -> None:
    store(wire, b"twice", b"x")
    wire.expect(b"get twice twice twice\r\n", b"VALUE twice 0 1\r\nx\r\n" * 3 + b"END\r\n")


def test_get_of_a_hundred_keys_gives_them_all(wire: Wire) -> None:
    keys = [b"hundred-%d" % number for number in range(100)]
    for key in keys:
        store(wire, key, key)
    reply = b"".join(b"VALUE %b 0 %d\r\n%b\r\n" % (key, len(key), key) for key in keys)
    wire.expect(b"get " + b" ".join(keys) + b"\r\n", reply + b"END\r\n")


def test_get_of_a_hundred_absent_keys_is_only_the_end(wire: Wire) -> None:
    keys = b" ".join(b"absent-%d" % number for number in range(100))
    wire.expect(b"get " + keys + b"\r\n", b"END\r\n")


def test_the_word_noreply_is_a_key_to_get(wire: Wire) -> None:
    store(wire, b"noreply", b"x")
    wire.expect(b"get noreply\r\n", b"VALUE noreply 0 1\r\nx\r\nEND\r\n")


def test_gets_adds_a_number_which_changes_with_every_store(wire: Wire) -> None:
    store(wire, b"numbered", b"a")
    first = wire.cas_of(b"numbered")
    wire.expect(b"gets numbered\r\n", b"VALUE numbered 0 1 %d\r\na\r\nEND\r\n" % first)
    store(wire, b"numbered", b"a")
    second = wire.cas_of(b"numbered")
    assert second > first
    wire.expect(b"gets nothing numbered\r\n", b"VALUE numbered 0 1 %d\r\na\r\nEND\r\n" % second)


def test_reading_does_not_change_the_number(wire: Wire) -> None:
    store(wire, b"still", b"a")
    number = wire.cas_of(b"still")
    wire.expect(b"get still\r\n", b"VALUE still 0 1\r\na\r\nEND\r\n")
    wire.expect(b"touch still 1000\r\n", b"TOUCHED\r\n")
    assert wire.cas_of(b"still") == number


def test_gets_of_nothing_is_only_the_end(wire: Wire) -> None:
    wire.expect(b"gets nothing nowhere\r\n", b"END\r\n")


def test_gat_returns_the_value_and_sets_its_lifetime(wire: Wire) -> None:
    store(wire, b"gat", b"abc", flags=5)
    wire.expect(b"gat 1000 gat\r\n", b"VALUE gat 5 3\r\nabc\r\nEND\r\n")
    wire.expect(b"gat -1 gat\r\n", b"VALUE gat 5 3\r\nabc\r\nEND\r\n")
    wire.expect(b"get gat\r\n", b"END\r\n")


def test_gat_of_several_keys_gives_those_that_are_there(wire: Wire) -> None:
    store(wire, b"gat1", b"a")
    store(wire, b"gat2", b"b")
    wire.expect(
        b"gat 0 gat1 nothing gat2 gat1\r\n",
        b"VALUE gat1 0 1\r\na\r\nVALUE gat2 0 1\r\nb\r\nVALUE gat1 0 1\r\na\r\nEND\r\n",
    )


def test_gat_of_nothing_is_only_the_end(wire: Wire) -> None:
    wire.session((b"gat 0 nothing\r\n", b"END\r\n"), (b"gats 0 nothing\r\n", b"END\r\n"))


def test_gats_adds_the_number_of_gets(wire: Wire) -> None:
    store(wire, b"gats", b"abc", flags=6)
    number = wire.cas_of(b"gats")
    wire.expect(b"gats 1000 gats\r\n", b"VALUE gats 6 3 %d\r\nabc\r\nEND\r\n" % number)
    assert wire.cas_of(b"gats") == number


def test_gat_with_a_time_that_is_no_number_is_refused(wire: Wire) -> None:
    store(wire, b"kept", b"x")
    for word in (b"soon", b"1.5", b"1a", b"kept"):
        wire.expect(b"gat " + word + b" kept\r\n", b"CLIENT_ERROR invalid exptime argument\r\n")
        wire.expect(b"gats " + word + b" kept\r\n", b"CLIENT_ERROR invalid exptime argument\r\n")
    wire.expect(b"get kept\r\n", b"VALUE kept 0 1\r\nx\r\nEND\r\n")


def test_an_empty_value_is_a_value(wire: Wire) -> None:
    store(wire, b"empty", b"", flags=3)
    wire.expect(b"get empty\r\n", b"VALUE empty 3 0\r\n\r\nEND\r\n")


def test_every_byte_value_comes_back(wire: Wire) -> None:
    value = bytes(range(256)) * 3
    store(wire, b"bytes", value)
    wire.expect(b"get bytes\r\n", b"VALUE bytes 0 768\r\n" + value + b"\r\nEND\r\n")


def test_a_value_may_look_like_the_protocol(wire: Wire) -> None:
    for value in (b"\r\n", b"\r\nEND\r\n", b"END\r\n", b"get a\r\nquit\r\n", b"\n\n\n", b"\r"):
        store(wire, b"lookalike", value)
        wire.expect(b"get lookalike\r\n", b"VALUE lookalike 0 %d\r\n%b\r\nEND\r\n" % (len(value), value))


def test_keys_of_high_and_control_bytes_are_keys(wire: Wire) -> None:
    for key in (b"\xff\x80\xc3", "schlüssel".encode(), b"a\tb", b"a\x01b", b"a\x7f"):
        store(wire, key, b"x")
        wire.expect(b"get " + key + b"\r\n", b"VALUE " + key + b" 0 1\r\nx\r\nEND\r\n")
        wire.expect(b"delete " + key + b"\r\n", b"DELETED\r\n")


def test_a_key_of_250_bytes_is_a_key(wire: Wire) -> None:
    key = b"k" * 250
    store(wire, key, b"x")
    wire.expect(b"get " + key + b"\r\n", b"VALUE " + key + b" 0 1\r\nx\r\nEND\r\n")
    wire.expect(b"touch " + key + b" 0\r\n", b"TOUCHED\r\n")
    wire.expect(b"delete " + key + b"\r\n", b"DELETED\r\n")


def test_keys_that_differ_in_the_last_byte_or_in_case_are_different(wire: Wire) -> None:
    store(wire, b"Key", b"1")
    store(wire, b"key", b"2")
    store(wire, b"key1", b"3")
    wire.expect(
        b"get Key key key1 KEY ke\r\n",
        b"VALUE Key 0 1\r\n1\r\nVALUE key 0 1\r\n2\r\nVALUE key1 0 1\r\n3\r\nEND\r\n",
    )
