"""The examples of tutorial and how-to guides do what their pages say."""

import re
import shutil
from pathlib import Path

import pytest

from tests.pages import Page, PageFault

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGES = [*sorted((DOCS / "tutorial").glob("*.md")), *sorted((DOCS / "howto").glob("*.md"))]
NEEDED = {"tls.md": "openssl"}
"""Programs that a page's reader has, and a machine that runs the tests perhaps not."""


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_the_examples_of_a_page_do_what_it_says(path: Path, tmp_path: Path) -> None:
    if path.name in NEEDED and shutil.which(NEEDED[path.name]) is None:
        pytest.skip(f"{NEEDED[path.name]} is not installed")
    with Page(path, tmp_path) as page:
        assert page.run() > 0


@pytest.mark.parametrize(
    ("example", "fault"),
    [
        ("```sh\necho one\n```\n```\none\n```\n", None),
        ("```sh\necho one 17 two\n```\n\nIt prints:\n\n```\none … two\n```\n", None),
        ("```python\nprint(1)\n```\n```\n1\n```\n", None),
        ("```sh untested\nfalse\n```\n```\nanything\n```\n", None),
        ("```sh\nfalse\n```\n", "ended with status 1"),
        ("```sh\nfalse | true\n```\n", "ended with status 1"),
        ("```sh\necho one\n```\n```\ntwo\n```\n", "the page says"),
        ("```python\nprint(1)\n```\n```\n2\n```\n", "the page says"),
        ("```sh server\nmemcache-kv -p nonsense\n```\n", "-p nonsense ended; it said"),
        ("```ruby\n```\n", "no such kind of block"),
    ],
)
def test_an_example_that_does_not_hold_is_found(example: str, fault: str | None, tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text(example)
    with Page(path, tmp_path) as page:
        if fault is None:
            page.run()
        else:
            with pytest.raises(PageFault, match=re.escape(fault)):
                page.run()
