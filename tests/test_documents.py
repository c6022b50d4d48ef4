"""The documents as Markdown: whatever is meant as a table is one, and each of its rows has all columns and no more."""

import re
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from benchmarks.page import read_parts, targets_of
from clients.local_server import LocalServer, default_command
from memcache_kv.config.loading import load_settings

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]

MARKDOWN = MarkdownIt("commonmark").enable("table")


def lines_of(tokens: list[Token], *kinds: str) -> list[range]:
    """The lines of each block of these kinds, counted from 0."""
    return [range(*token.map) for token in tokens if token.type in kinds and token.map is not None]


def has_columns(row: str, count: int) -> bool:
    """Whether Markdown reads this many cells in a row: only then is it the head of a table with as many columns."""
    return bool(lines_of(MARKDOWN.parse(f"{row}\n{'|---' * count}|\n"), "table_open"))


def faults(text: str) -> list[str]:
    """The lines that are no rows of a table and look like one, and the rows with too many or too few cells."""
    lines, tokens = text.splitlines(), MARKDOWN.parse(text)
    tables = lines_of(tokens, "table_open")
    explained = {number for block in (*tables, *lines_of(tokens, "fence", "code_block")) for number in block}
    found = [
        f"line {number + 1} is in no table: {line}"
        for number, line in enumerate(lines)
        if line.lstrip().startswith("|") and number not in explained
    ]
    for table in tables:
        [count] = [count for count in range(1, 30) if has_columns(lines[table.start], count)]
        found += [
            f"line {number + 1} has not {count} cells: {lines[number]}"
            for number in table
            if number != table.start + 1 and not has_columns(lines[number], count)
        ]
    return found


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_tables_are_tables(path: Path) -> None:
    assert faults(path.read_text()) == []


def test_the_documents_have_tables() -> None:
    assert sum(len(lines_of(MARKDOWN.parse(path.read_text()), "table_open")) for path in DOCUMENTS) > 30


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ("| c | d |", None),
        (r"| `a\|b` | d |", None),
        ("| c | |", None),
        ("| `a|b` | d |", "line 3 has not 2 cells: | `a|b` | d |"),
        ("| c |", "line 3 has not 2 cells: | c |"),
        ("\n| c | d |", "line 4 is in no table: | c | d |"),
        ("\n```\n| c | d |\n```", None),
    ],
)
def test_faults_are_found(row: str, fault: str | None) -> None:
    assert faults(f"| a | b |\n|---|---|\n{row}\n") == ([fault] if fault else [])


SPEAKING = [
    *DOCUMENTS,
    ROOT / "Dockerfile",
    *(path for folder in ("memcache_kv", "clients", "benchmarks") for path in sorted((ROOT / folder).rglob("*.py"))),
]
"""Whatever tells people what to do."""


def test_what_is_to_be_installed_can_be_installed_from_a_clone() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"].keys()
    told = {str(path): re.findall(r"pip install .*?(\S*)\[(\w+)\]", path.read_text()) for path in SPEAKING}
    hints = [(name, what, extra) for name, found in told.items() for what, extra in found]
    assert len(hints) >= 4
    assert [hint for hint in hints if hint[1].strip("'\"") != "." or hint[2] not in extras] == []


@pytest.mark.parametrize("document", ["README.md", "docs/explanation/durability.md"])
@pytest.mark.parametrize("load", ["get90", "set50"])
def test_a_journal_costs_what_was_measured(document: str, load: str) -> None:
    measured = [target for target in targets_of(read_parts()) if target.name.startswith(f"{load} with a journal")]
    costs = sorted(max(0, round(100 * (1 - target.found))) for target in measured)
    assert f"{costs[0]} to {costs[-1]} %" in (ROOT / document).read_text()


def test_the_readmes_example_runs_after_what_it_says_to_install() -> None:
    text = (ROOT / "README.md").read_text()
    [example, _] = [token for token in MARKDOWN.parse(text) if token.type == "fence" and token.info == "python"]
    assert "pip install pymemcache`" in text.partition(example.content)[0]
    with LocalServer(default_command()) as server:
        names: dict[str, object] = {}
        exec(example.content.replace("11211", str(server.address.port)) + "found = client.get('greeting')\n"
             "client.close()\n", names)  # fmt: skip
    assert names["found"] == b"hello"


def test_the_readmes_server_in_a_program_prints_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    fences = [token for token in MARKDOWN.parse((ROOT / "README.md").read_text()) if token.type == "fence"]
    [(_, _), (example, printed)] = [(one, other) for one, other in pairwise(fences) if one.info == "python"]
    exec(example.content, {})
    assert capsys.readouterr().out == printed.content


def links_of(path: Path) -> list[str]:
    inline = [token for block in MARKDOWN.parse(path.read_text()) for token in block.children or ()]
    return [str(token.attrs.get("href") or token.attrs.get("src")) for token in inline
            if token.type in ("link_open", "image")]  # fmt: skip


def anchors_of(path: Path) -> set[str]:
    """The names that a heading has on a page, as the usual hosts make them."""
    tokens = MARKDOWN.parse(path.read_text())
    titles = [after.content for token, after in pairwise(tokens) if token.type == "heading_open"]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for link in links_of(path):
        file, _, anchor = link.partition("#")
        if not link.startswith("https://"):
            target = (path.parent / file) if file else path
            assert target.exists(), link
            assert not anchor or anchor in anchors_of(target), link


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_test_and_page_that_is_named_exists(path: Path) -> None:
    if path.name != "CHANGELOG.md":  # which tells of pages by their names of that time
        named = re.findall(r"\b((?:docs|tests)/[\w/]+\.(?:md|py))\b", path.read_text())
        assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_design_names_every_module_in_its_folder() -> None:
    rows = re.findall(r"^\| (?:`([\w/]+)`)? ?\| (`[^|]*`) \|", (ROOT / "docs/explanation/design.md").read_text(), re.M)
    told, folder = set(), ""
    for begun, files in rows:
        folder = "" if begun == "memcache_kv/" else begun or folder
        told |= {folder + file for file in re.findall(r"`([\w]+\.py)`", files)}
    package = ROOT / "memcache_kv"
    assert told == {str(path.relative_to(package)) for path in package.rglob("*.py") if path.name != "__init__.py"}


def test_every_file_of_settings_that_is_shown_can_be_read(tmp_path: Path) -> None:
    fences = [token for path in DOCUMENTS for token in MARKDOWN.parse(path.read_text()) if token.type == "fence"]
    files = [token.content for token in fences if token.info == "toml"]
    assert len(files) >= 2
    for number, content in enumerate(files):
        path = tmp_path / f"{number}.toml"
        path.write_text(content)
        assert load_settings({}, path, {}).listen
