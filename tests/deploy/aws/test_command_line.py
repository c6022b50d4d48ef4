"""What `aws.sh` says before it asks AWS for anything: help, and errors of the command line and the configuration."""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.deploy.aws.deployment import ROOT, SCRIPT
from tests.program import PATIENCE_SECONDS

COMMANDS = ("create", "deploy", "test", "status", "ssh", "results", "teardown")
LIB = SCRIPT.parent / "lib"
WRONG = 2


def run_script(*words: str) -> "subprocess.CompletedProcess[str]":
    if shutil.which("bash") is None:
        pytest.skip("bash is not installed")
    return subprocess.run(
        ["bash", str(SCRIPT), *words], env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"},
        capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False,
    )  # fmt: skip


def run_with_config(folder: Path, text: str) -> "subprocess.CompletedProcess[str]":
    """Run `status` with a configuration, where no program of AWS is found."""
    path = folder / "config.sh"
    path.write_text(text)
    return run_script("--config", str(path), "status")


def test_the_help_lists_every_command_and_each_describes_itself() -> None:
    listed = run_script("--help")
    assert listed.returncode == 0
    assert re.findall(r"^  ([a-z]+)  ", listed.stdout, re.MULTILINE) == list(COMMANDS)
    for command in COMMANDS:
        described = run_script(command, "--help")
        assert described.returncode == 0
        assert described.stdout.startswith(f"usage: aws.sh {command}")


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ([], "no command"),
        (["destroy"], "unknown command destroy"),
        (["--nonsense", "create"], "unknown option --nonsense"),
        (["--config"], "--config needs a file"),
    ],
)
def test_a_wrong_command_line_is_refused(words: list[str], error: str) -> None:
    done = run_script(*words)
    assert done.returncode == WRONG
    assert error in done.stderr
    assert "aws.sh --help" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("words", [["create", "--no"], ["deploy", "now"], ["ssh", "proxy"], ["results", "a", "b"]])
def test_a_word_that_a_command_does_not_know_is_refused(words: list[str], tmp_path: Path) -> None:
    (tmp_path / "config.sh").write_text("REGION=eu-central-1\n")
    done = run_script("--config", str(tmp_path / "config.sh"), *words)
    assert done.returncode == WRONG
    assert "aws.sh COMMAND --help" in done.stderr


def test_without_a_configuration_it_says_how_to_make_one(tmp_path: Path) -> None:
    done = run_script("--config", str(tmp_path / "none.sh"), "create")
    assert done.returncode == WRONG
    assert "config.sh.example" in done.stderr


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "REGION="),
        ("REGION=Frankfurt", "REGION=Frankfurt"),
        ("REGION=eu-central-1\nREGOIN=eu-west-1", "REGOIN"),
        ("REGION=eu-central-1\nNAME='a b'", "NAME=a b"),
        ("REGION=eu-central-1\nSERVER_TYPE=large", "SERVER_TYPE=large"),
        ("REGION=eu-central-1\nCLIENT_PRICE=cheap", "CLIENT_PRICE=cheap"),
        ("REGION=eu-central-1\nLINE_PORT=70000", "LINE_PORT=70000"),
        ("REGION=eu-central-1\nMEMCACHED_PORT=7171", "are the same"),
        ("REGION=eu-central-1\nMY_ADDRESS=0.0.0.0/0", "MY_ADDRESS=0.0.0.0/0"),
        ("REGION=eu-central-1\nMY_ADDRESS=203.0.113.7", "MY_ADDRESS=203.0.113.7"),
        ("REGION=eu-central-1\nSUBNET_ID=vpc-1", "SUBNET_ID=vpc-1"),
        ("REGION=eu-central-1\nIMAGE_SOURCE=cloud", "IMAGE_SOURCE=cloud"),
        ("REGION=eu-central-1\nKEY_FILE=key", "KEY_FILE=key"),
        ("REGION='", "not valid bash"),
    ],
)
def test_a_wrong_setting_is_named_before_anything_happens(text: str, named: str, tmp_path: Path) -> None:
    done = run_with_config(tmp_path, text)
    assert done.returncode == WRONG
    assert named in done.stderr
    assert done.stdout == ""


def test_the_example_has_every_setting_with_its_default(tmp_path: Path) -> None:
    example = (SCRIPT.parent / "config.sh.example").read_text()
    shown = dict(re.findall(r"^#?([A-Z_]+)=(.*)$", example, re.MULTILINE))
    program = (LIB / "config.sh").read_text()
    [names] = re.findall(r'CONFIG_NAMES=" ([^"]*) "', program)
    assert shown.keys() == set(names.replace("\\\n", "").split())
    defaults = dict(re.findall(r"^  ([A-Z_]+)=(.*)$", program, re.MULTILINE))
    assert defaults.pop("REGION") == ""
    assert shown.pop("REGION") == "eu-central-1"
    assert defaults.pop("KEY_NAME") == ""
    assert shown.pop("KEY_NAME") == "$NAME"
    assert {name: value.strip("'") for name, value in defaults.items()} == shown


def test_the_client_gets_the_packages_of_the_extra_load() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    [packages] = re.findall(r"LOAD_PACKAGES=\((.*)\)", (LIB / "load_test.sh").read_text())
    assert re.findall(r'"([^"]*)"', packages) == extras["load"]


def test_every_function_of_the_script_is_short() -> None:
    for path in [SCRIPT, *LIB.rglob("*.sh")]:
        for body in re.findall(r"^[a-z_]+\(\) \{\n(.*?)^\}", path.read_text(), re.MULTILINE | re.DOTALL):
            assert body.count("\n") < 60, path


def test_the_page_lists_the_permissions_that_the_script_needs() -> None:
    program = "".join(path.read_text() for path in LIB.glob("*.sh"))
    calls = set(re.findall(r"\b(ec2|ssm|pricing) ([a-z]+(?:-[a-z]+)+)", program))
    needed = {f"{service}:{''.join(word.capitalize() for word in call.split('-'))}" for service, call in calls}
    waited = {"instance-running", "instance-terminated", "security-group-exists"}
    assert set(re.findall(r"ec2 wait ([a-z-]+)", program)) == waited  # DescribeInstances and DescribeSecurityGroups
    page = (ROOT / "docs" / "howto" / "aws.md").read_text()
    [paragraph] = re.findall(r"^The user or role needs these actions: (.*?)\n\n", page, re.MULTILINE | re.DOTALL)
    assert set(re.findall("`([^`]*)`", paragraph)) == needed | {"ec2:CreateTags"}
