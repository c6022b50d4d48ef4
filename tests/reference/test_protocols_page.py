"""docs/reference/protocols.md lists what the code knows: every command, stream, meta flag, opcode, status and limit."""

from __future__ import annotations

import re

import pytest

from memcache_kv.observe.watchers import Stream
from memcache_kv.protocol.binary.commands import OPCODE_COMMANDS
from memcache_kv.protocol.binary.frames import LARGEST_BODY_BYTES, Opcode, Status
from memcache_kv.protocol.command_classes import COMMAND_CLASSES, HIGHER_FORMS
from memcache_kv.protocol.meta.flags import META_WORDS_LIMIT, OPAQUE_LIMIT_BYTES, BadFlags, look_like_flags, read_flags
from memcache_kv.protocol.replies import KEY_LIMIT_BYTES, LARGEST_LENGTH
from memcache_kv.protocol.text.admin import ADMIN_COMMANDS
from memcache_kv.protocol.text.classic import KEYED, KEYLESS, WORDS_LIMIT
from memcache_kv.protocol.text.framing import LINE_LIMIT_BYTES, MULTIGET_LIMIT_BYTES
from memcache_kv.protocol.text.login import TOKEN_LIMIT_BYTES
from memcache_kv.server.udp import PAYLOAD_BYTES, UDP_REPLY_LIMIT_BYTES
from tests.protocol.context_factory import Conversation
from tests.reference.pages import page_path

PAGE = page_path("protocols.md").read_text()
MIB = 1 << 20


def rows(heading: str, head: str) -> list[list[str]]:
    """The rows of the table of a section whose first row begins with `head`, without that row."""
    [section] = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    [table] = re.findall(rf"^\| {head} .*\n\|[-|]+\n((?:\|.*\n)+)", section, re.MULTILINE)
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in table.splitlines()]


def names(cell: str) -> list[str]:
    return re.findall(r"`(.*?)`", cell)


def test_every_text_command_is_listed() -> None:
    listed = [names(row[0])[0] for head in ("Classic commands", "Meta commands") for row in rows(head, "command")]
    assert sorted(listed) == sorted(name.decode() for name in (*KEYED, *KEYLESS, *ADMIN_COMMANDS))


def test_the_form_of_a_command_begins_with_its_name() -> None:
    for head in ("Classic commands", "Meta commands"):
        for name, form, _, _ in rows(head, "command"):
            assert form.startswith((f"`{names(name)[0]}", "as `"))


def test_every_stream_is_listed() -> None:
    listed = [name for row in rows("Classic commands", "stream") for name in names(row[0])]
    assert sorted(listed) == sorted(stream.value for stream in Stream)


def is_known(letter: bytes) -> bool:
    try:
        read_flags(b"YQ==", [letter], 3)
    except BadFlags as fault:
        return str(fault.args[0], "ascii") != "CLIENT_ERROR invalid flag"
    return True


COLUMNS = ("mg", "ms", "md", "ma")
FLAGS = {name: row[1:5] for row in rows("Meta commands", r"flag \| `mg`") for name in names(row[0])}
"""What the page says of each flag, by the commands' columns."""


def test_every_meta_flag_is_listed() -> None:
    letters = [bytes([byte]) for byte in range(33, 127) if look_like_flags([bytes([byte])])]
    assert sorted(FLAGS) == sorted(letter.decode() for letter in letters if is_known(letter))


@pytest.mark.parametrize("command", COLUMNS)
@pytest.mark.parametrize("letter", sorted(FLAGS))
def test_a_flag_comes_back_where_the_page_says_so(command: str, letter: str) -> None:
    flag = letter + ("1" if letter in "CDEFJNORT" else {"ms": "S", "ma": "I"}.get(command, "") if letter == "M" else "")
    key = "YQ==" if letter == "b" else "a"
    line = f"ms {key} 1 {flag}\r\n1\r\n" if command == "ms" else f"{command} {key} {flag}\r\n"
    conversation = Conversation()
    conversation.feed(b"ms a 1 F5 T90\r\n1\r\n")
    reply = conversation.feed(line.encode()).partition(b"\r\n")[0].split(b" ")
    assert reply[0] in (b"HD", b"VA", b"EX", *([b""] if letter == "q" else []))
    returned = any(word.startswith(letter.encode()) for word in reply[1:])
    assert returned == (FLAGS[letter][COLUMNS.index(command)] == "returned")


def test_every_opcode_is_listed_beside_its_quiet_form() -> None:
    listed: dict[int, str] = {}
    for opcode, command, quiet, *_ in rows("Binary commands", "opcode"):
        listed[int(opcode, 16)] = command.partition(",")[0]
        assert not OPCODE_COMMANDS[int(opcode, 16)].is_quiet
        if quiet:
            number, name = quiet.split(" ")
            listed[int(number, 16)] = name
            assert OPCODE_COMMANDS[int(number, 16)].is_quiet
    assert listed == {opcode.value: opcode.name for opcode in Opcode}
    assert listed.keys() == OPCODE_COMMANDS.keys()


def test_every_command_is_listed_with_its_class() -> None:
    listed: dict[bytes | int, str] = {}
    for head in ("Classic commands", "Meta commands"):
        listed |= {names(name)[0].encode(): command_class for name, _, _, command_class in rows(head, "command")}
    for opcode, _, quiet, _, _, _, command_class in rows("Binary commands", "opcode"):
        listed |= {int(number, 16): command_class for number in (opcode, quiet.partition(" ")[0]) if number}
    expected = {command: lowest.name.lower() for command, lowest in COMMAND_CLASSES.items()}
    for command, highest in HIGHER_FORMS.items():
        expected[command] += f", {highest.name.lower()}"
    assert listed == expected


def test_a_binary_command_has_key_and_value_where_the_page_says_so() -> None:
    for opcode, _, _, extras, key, value, _ in rows("Binary commands", "opcode"):
        command = OPCODE_COMMANDS[int(opcode, 16)]
        assert bool(key) == (command.is_keyed is not False)
        assert key.startswith("none") == (command.is_keyed is None)
        assert any(command.extras) == bool(extras)
        assert value == "" or not command.is_exact


def test_every_status_is_listed() -> None:
    listed = {int(status, 16): meaning.partition(":")[0] for status, meaning in rows("Binary commands", "status")}
    assert listed == {status.value: status.name for status in Status}


def test_the_limits_are_those_of_the_code() -> None:
    limits = {what.partition(" (")[0]: limit for what, limit, _ in rows("Limits", "what")}
    assert limits["key"].startswith(f"{KEY_LIMIT_BYTES} bytes")
    assert limits["announced length of a data block"] == f"{LARGEST_LENGTH} bytes"
    assert limits["body of a binary request"] == f"{LARGEST_BODY_BYTES >> 30} GiB"
    assert (
        limits["command line"]
        == f"{LINE_LIMIT_BYTES} bytes without a line end; `get` and `gets`: {MULTIGET_LIMIT_BYTES // MIB} MiB"
    )
    assert limits["words of a command line"].startswith(f"{WORDS_LIMIT}, ")
    assert limits["words of a meta command"] == f"{META_WORDS_LIMIT}"
    assert limits["opaque"] == f"{OPAQUE_LIMIT_BYTES - 1} bytes"
    assert limits["login by text"].startswith(f"{TOKEN_LIMIT_BYTES} bytes")
    assert f"of {PAYLOAD_BYTES} bytes" in limits["datagram"]
    assert f"{UDP_REPLY_LIMIT_BYTES // MIB} MiB in all" in limits["datagram"]
