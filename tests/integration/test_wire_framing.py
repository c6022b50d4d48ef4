"""How requests are found in the stream: line ends, packets, order, and lines too long."""

import pytest

from tests.integration.wire import OURS, RunningServer, Wire

REQUESTS = (
    b"set s 1 0 6\r\na\r\nb\r\n\r\n"
    b"get s\r\n"
    b"append s 0 0 2 noreply\r\n\x00\xff\r\n"
    b"get s none\r\n"
    b"set n 0 0 2\r\n41\r\n"
    b"incr n 1\r\n"
    b"set s 0 0 2\r\ntoo long\r\n"
    b"delete s\r\n"
    b"foo\r\n"
    b"touch n 0\r\n"
)
REPLIES = (
    b"STORED\r\n"
    b"VALUE s 1 6\r\na\r\nb\r\n\r\nEND\r\n"
    b"VALUE s 1 8\r\na\r\nb\r\n\x00\xff\r\nEND\r\n"
    b"STORED\r\n"
    b"42\r\n"
    b"CLIENT_ERROR bad data chunk\r\nERROR\r\n"
    b"DELETED\r\n"
    b"ERROR\r\n"
    b"TOUCHED\r\n"
)


def test_a_packet_with_many_requests_gets_all_replies_in_order(wire: Wire) -> None:
    wire.expect(REQUESTS, REPLIES)


@pytest.mark.parametrize("piece", range(4))
def test_requests_cut_in_two_anywhere_get_the_same_replies(wire: Wire, piece: int) -> None:
    for cut in range(piece, len(REQUESTS), 4):
        wire.send(REQUESTS[:cut])
        wire.expect(REQUESTS[cut:], REPLIES)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_requests_in_small_packets_get_the_same_replies(wire: Wire, size: int) -> None:
    wire.send_pieces(REQUESTS[start : start + size] for start in range(0, len(REQUESTS), size))
    wire.expect(b"", REPLIES)


def test_a_request_is_not_answered_before_it_is_complete(wire: Wire) -> None:
    """Each part is given time to be read, by a whole exchange of another client's."""
    with Wire(wire.server) as other:
        for part in (b"se", b"t h 0 0 ", b"5\r", b"\n", b"he", b"llo", b"\r"):
            wire.send(part)
            other.expect(b"get h\r\n", b"END\r\n")
    wire.expect(b"\n", b"STORED\r\n")


def test_half_a_request_of_one_client_holds_up_nobody_else(wire: Wire) -> None:
    waiting = [Wire(wire.server) for _ in range(20)]
    try:
        for number, client in enumerate(waiting):
            client.send(b"set half%d 0 0 1000\r\n%b" % (number, bytes(500)))
        for number in range(50):
            wire.expect(b"set other%d 0 0 1\r\nx\r\n" % number, b"STORED\r\n")
        for client in waiting:
            client.expect(bytes(500) + b"\r\n", b"STORED\r\n")
    finally:
        for client in waiting:
            client.close()


def test_a_thousand_pipelined_requests_are_answered_in_order(wire: Wire) -> None:
    sets = b"".join(b"set p%d 0 0 4\r\n%04d\r\n" % (number, number) for number in range(1000))
    gets = b"".join(b"get p%d\r\n" % number for number in range(1000))
    values = b"".join(b"VALUE p%d 0 4\r\n%04d\r\nEND\r\n" % (number, number) for number in range(1000))
    wire.expect(sets + gets, b"STORED\r\n" * 1000 + values)


def test_a_client_which_leaves_amid_a_request_stores_nothing(server: RunningServer) -> None:
    with Wire(server) as leaving:
        leaving.send(b"set gone 0 0 1000\r\n" + bytes(999))
    with Wire(server) as staying:
        staying.session((b"get gone\r\n", b"END\r\n"), (b"set gone 0 0 1\r\nx\r\n", b"STORED\r\n"))


def test_a_client_which_leaves_without_reading_does_no_harm(server: RunningServer) -> None:
    with Wire(server) as wire:
        wire.expect(b"set v 0 0 100000\r\n" + bytes(100000) + b"\r\n", b"STORED\r\n")
        for _ in range(20):
            with Wire(server) as leaving:
                leaving.send(b"get v\r\n" * 50)
        wire.expect(b"get none\r\n", b"END\r\n")


def test_a_bare_newline_ends_a_line(wire: Wire) -> None:
    wire.session(
        (b"set b 2 0 1\nx\r\n", b"STORED\r\n"),
        (b"get b\n", b"VALUE b 2 1\r\nx\r\nEND\r\n"),
        (b"touch b 0\nincr none 1\ndelete b\n", b"TOUCHED\r\nNOT_FOUND\r\nDELETED\r\n"),
        (b"foo\n", b"ERROR\r\n"),
    )


def test_the_data_needs_both_characters_of_its_line_end(wire: Wire) -> None:
    wire.session(
        (b"set b 0 0 3\r\nabc\nget b\r\n", b"CLIENT_ERROR bad data chunk\r\nERROR\r\n"),
        (b"set b 0 0 3\r\nabc\rget b\r\n", b"CLIENT_ERROR bad data chunk\r\nERROR\r\n"),
        (b"get b\r\n", b"END\r\n"),
    )


def test_a_carriage_return_within_a_line_is_part_of_a_word(wire: Wire) -> None:
    wire.session(
        (b"set a\rb 0 0 1\r\nx\r\n", b"STORED\r\n"),
        (b"get a\rb\r\n", b"VALUE a\rb 0 1\r\nx\r\nEND\r\n"),
        (b"get a b\r\n", b"END\r\n"),
    )


def test_several_spaces_are_as_good_as_one(wire: Wire) -> None:
    wire.session(
        (b"set  sp   1  0    1  \r\nx\r\n", b"STORED\r\n"),
        (b"get   sp  \r\n", b"VALUE sp 1 1\r\nx\r\nEND\r\n"),
        (b"gat  0  sp\r\n", b"VALUE sp 1 1\r\nx\r\nEND\r\n"),
        (b"set  sp 0 0  1   noreply  \r\n5\r\n", b""),
        (b"incr  sp  1 \r\n", b"6\r\n"),
        (b"touch  sp  0 \r\n", b"TOUCHED\r\n"),
        (b"delete  sp \r\n", b"DELETED\r\n"),
    )


def test_a_tab_is_no_space(wire: Wire) -> None:
    wire.session((b"get\tx\r\n", b"ERROR\r\n"), (b"get t\tu\r\n", b"END\r\n"))


@pytest.mark.parametrize("size", [2049, 3000, 20_000])
def test_a_line_without_end_closes_the_connection(wire: Wire, size: int) -> None:
    wire.send(b"x" * size)
    wire.closed()
    with Wire(wire.server) as again:
        again.expect(b"get none\r\n", b"END\r\n")


@pytest.mark.parametrize("size", [1500, 2048])
def test_a_line_without_end_is_waited_for_up_to_a_length(wire: Wire, size: int) -> None:
    wire.send(b"x" * size)
    with Wire(wire.server) as other:
        other.expect(b"get none\r\n", b"END\r\n")
    wire.expect(b"\r\n", b"ERROR\r\n")


@pytest.mark.parametrize("command", [b"get", b"gets"])
def test_a_get_of_twenty_thousand_bytes_works(wire: Wire, command: bytes) -> None:
    wire.expect(b"set last 0 0 1\r\nx\r\n", b"STORED\r\n")
    keys = [b"key%06d" % number for number in range(2000)]
    line = command + b" " + b" ".join(keys) + b" last\r\n"
    assert len(line) > 20_000
    number = wire.cas_of(b"last")
    value = b"VALUE last 0 1\r\nx\r\n" if command == b"get" else b"VALUE last 0 1 %d\r\nx\r\n" % number
    wire.expect(line, value + b"END\r\n")
    wire.send_pieces(line[start : start + 1900] for start in range(0, len(line), 1900))
    wire.expect(b"", value + b"END\r\n")


@pytest.mark.parametrize(
    "line",
    [b"GET / HTTP/1.1\r\n", b"POST / HTTP/1.1\r\n", b"PUT /k HTTP/1.0\r\n", b"HEAD / HTTP/1.1\n", b"foo HTTP/\r\n"],
)
def test_a_request_of_another_protocol_closes_the_connection(wire: Wire, line: bytes) -> None:
    wire.send(line)
    wire.closed()


def test_a_request_of_another_protocol_closes_before_its_body_is_obeyed(wire: Wire) -> None:
    wire.send(b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\nset smuggled 0 0 1\r\nx\r\n")
    wire.closed()
    with Wire(wire.server) as again:
        again.expect(b"get smuggled\r\n", b"END\r\n")


def test_replies_before_a_request_of_another_protocol_are_lost_at_memcached_alone(wire: Wire) -> None:
    wire.send(b"get none\r\ndelete none\r\nGET / HTTP/1.1\r\n")
    if wire.server.kind == OURS:
        wire.closed(b"END\r\nNOT_FOUND\r\n")
    else:
        assert wire.read(100) in (b"", b"END\r\n")


def test_a_request_of_another_protocol_behind_answered_ones_closes_the_connection(wire: Wire) -> None:
    wire.expect(b"get none\r\n", b"END\r\n")
    wire.send(b"GET / HTTP/1.1\r\n")
    wire.closed()


def test_words_of_another_protocol_within_our_own_are_only_words(wire: Wire) -> None:
    wire.session(
        (b"set HTTP/ 0 0 1\r\nx\r\n", b"STORED\r\n"),
        (b"get / HTTP/ HTTP/1.1\r\n", b"VALUE HTTP/ 0 1\r\nx\r\nEND\r\n"),
        (b"GET a\r\n", b"ERROR\r\n"),
        (b"foo HTTP\r\n", b"ERROR\r\n"),
        (b"POST\r\n", b"ERROR\r\n"),
    )


@pytest.mark.parametrize(
    ("first", "reply"),
    [
        (b"get none\r\n", b"END\r\n"),
        (b"set some 0 0 1\r\nx\r\n", b"STORED\r\n"),
        (b"mg none v\r\n", b"EN\r\n"),
        (b"delete none\r\n", b"NOT_FOUND\r\n"),
    ],
)
def test_a_connection_that_began_in_text_stays_so(server: RunningServer, first: bytes, reply: bytes) -> None:
    with server.connect() as client:
        client.sendall(first)
        assert client.recv(100) == reply
        client.sendall(b"\x80\x0b" + bytes(22) + b"\r\n")
        assert client.recv(100) == b"ERROR\r\n"


def test_clients_do_not_see_each_others_replies(server: RunningServer) -> None:
    clients = [Wire(server) for _ in range(30)]
    try:
        for number, client in enumerate(clients):
            client.send(b"set c%d 0 0 2\r\n%02d\r\n" % (number, number) + b"get c%d\r\n" % number * 20)
        for number, client in enumerate(clients):
            value = b"VALUE c%d 0 2\r\n%02d\r\nEND\r\n" % (number, number)
            client.expect(b"", b"STORED\r\n" + value * 20)
    finally:
        for client in clients:
            client.close()
