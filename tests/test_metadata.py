"""What package indexes show: the description has no link that leads nowhere there, and the metadata is complete."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
CI = (ROOT / ".github/workflows/ci.yml").read_text()


def test_the_readme_has_no_link_that_leads_nowhere_on_an_index_page() -> None:
    assert PROJECT["readme"] == "README.md"
    assert re.findall(r"\]\((?!https?://)[^)]*\)", README) == []


def test_the_files_that_the_readme_names_are_there() -> None:
    named = set(re.findall(r"`(docs/[^`]*|[A-Z]+\.md)`", README))
    assert len(named) > 10
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_classifiers_have_the_pythons_that_are_tested() -> None:
    [matrix] = re.findall(r"^ +python: \[(.*)\]$", CI, re.MULTILINE)
    stated = [name for name in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", name)]
    assert stated == [f"Programming Language :: Python :: {version}" for version in re.findall(r"3\.\d+", matrix)]
    assert PROJECT["requires-python"] == f">={stated[0].rpartition(' ')[2]}"


def test_wheels_are_built_for_the_pythons_that_are_tested() -> None:
    tested = re.findall(r'"(3\.\d+)"', CI.partition("python: [")[2].partition("]")[0])
    tested += re.findall(r'python-version: "(3\.\d+t)"', CI)
    assert PYPROJECT["tool"]["cibuildwheel"]["build"] == [f"cp{version.replace('.', '')}-*" for version in tested]
    assert any("Free Threading" in name for name in PROJECT["classifiers"]) == tested[-1].endswith("t")


def test_the_classifiers_are_sorted_and_leave_the_license_to_its_field() -> None:
    assert PROJECT["classifiers"] == sorted(set(PROJECT["classifiers"]))
    assert not any(name.startswith("License ::") for name in PROJECT["classifiers"])
