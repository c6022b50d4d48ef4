"""What package indexes show: the description has no link that leads nowhere there, and the metadata is complete."""

import re
import runpy
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture
def described(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What setup.py hands to setuptools."""
    given: dict[str, Any] = {}
    monkeypatch.setattr("setuptools.setup", given.update)
    given["namespace"] = runpy.run_path(str(ROOT / "setup.py"))
    return given


def test_the_description_has_no_link_that_leads_nowhere_on_an_index_page(described: dict[str, Any]) -> None:
    assert re.findall(r"\]\((?!https?://)[^)]*\)", described["long_description"]) == []
    assert described["long_description_content_type"] == "text/markdown"


def test_the_description_is_the_readme_and_names_the_files(described: dict[str, Any]) -> None:
    readme = (ROOT / "README.md").read_text()
    linked = set(re.findall(r"\]\((?!https?://)([^)#]+)", readme))
    assert linked
    assert all(name in described["long_description"] for name in linked)
    assert described["long_description"].splitlines()[0] == readme.splitlines()[0]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("see [Use TLS](docs/howto/tls.md).", "see Use TLS (`docs/howto/tls.md`)."),
        ("see [Use TLS](docs/howto/tls.md#renew).", "see Use TLS (`docs/howto/tls.md`)."),
        ("([figures](#how-fast))", "(figures)"),
        ("[LICENSE](LICENSE)", "LICENSE"),
        ("[a](https://example.org/a#b)", "[a](https://example.org/a#b)"),
    ],
)
def test_a_relative_link_becomes_its_text_and_the_name_of_the_file(
    described: dict[str, Any], text: str, shown: str
) -> None:
    assert described["namespace"]["without_relative_links"](text) == shown


def test_the_classifiers_have_the_pythons_that_are_tested() -> None:
    [matrix] = re.findall(r"^ +python: \[(.*)\]$", (ROOT / ".github/workflows/ci.yml").read_text(), re.MULTILINE)
    stated = [name for name in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", name)]
    assert stated == [f"Programming Language :: Python :: {version}" for version in re.findall(r"3\.\d+", matrix)]
    assert PROJECT["requires-python"] == f">={stated[0].rpartition(' ')[2]}"


def test_the_classifiers_are_sorted_and_leave_the_license_to_its_field() -> None:
    assert PROJECT["classifiers"] == sorted(set(PROJECT["classifiers"]))
    assert not any(name.startswith("License ::") for name in PROJECT["classifiers"])
