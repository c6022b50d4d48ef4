"""How the shell parts a typed line into words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.typed_words import split_words


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", []),
        ("  \t ", []),
        ("get k", ["get", "k"]),
        (" set\tk  v ", ["set", "k", "v"]),
        ('set k "a b" 60', ["set", "k", "a b", "60"]),
        ("set k 'a b'", ["set", "k", "a b"]),
        ("set k ''", ["set", "k", ""]),
        ('set k ""', ["set", "k", ""]),
        ('set k {"a":1}', ["set", "k", '{"a":1}']),
        ("set k '{\"a\": 1}'", ["set", "k", '{"a": 1}']),
        (r'set k "say \"hi\" \\ \n"', ["set", "k", r'say "hi" \ \n']),
        (r"set k C:\dir", ["set", "k", r"C:\dir"]),
        (r"set k 'C:\dir\'", ["set", "k", "C:\\dir\\"]),
        ("set k it's", ["set", "k", "it's"]),
        ("set k a#b", ["set", "k", "a#b"]),
        ("get a\u00a0b", ["get", "a\u00a0b"]),
    ],
)
def test_a_line_is_parted_into_words(line: str, words: list[str]) -> None:
    assert split_words(line) == words


@pytest.mark.parametrize("line", ['set k "x', "set k 'x", "set k '", 'set k "a"b', """set k 'a'b""", r'set k "a\"'])
def test_a_quote_that_does_not_end_its_word_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"^the quote before .* does not end its word$"):
        split_words(line)


def quoted(word: str) -> str:
    escaped = word.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


@given(st.lists(st.text()))
def test_every_text_can_be_typed_in_quotes(words: list[str]) -> None:
    assert split_words(" ".join(map(quoted, words))) == words


@given(st.lists(st.text("{}[]:,\"'\\ab1", min_size=1).filter(lambda word: word[0] not in "\"'")))
def test_what_begins_without_a_quote_is_taken_as_typed(words: list[str]) -> None:
    assert split_words(" ".join(words)) == words
