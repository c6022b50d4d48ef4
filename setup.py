"""The description that package indexes show: README.md, in which relative links become the names of their files.

On an index page a relative link leads nowhere; the files that it names are in the source distribution. All other
metadata stands in pyproject.toml.
"""

import re
from pathlib import Path

from setuptools import setup

RELATIVE_LINK = re.compile(r"\[([^\]]+)\]\((?!https?://)([^)#]*)(?:#[^)]*)?\)")


def without_relative_links(text: str) -> str:
    """Replace each link to a file by its text and the file's name, and each link within the page by its text."""
    return RELATIVE_LINK.sub(lambda link: f"{link[1]} (`{link[2]}`)" if link[2] not in ("", link[1]) else link[1], text)


setup(
    long_description=without_relative_links((Path(__file__).parent / "README.md").read_text(encoding="utf-8")),
    long_description_content_type="text/markdown",
)
