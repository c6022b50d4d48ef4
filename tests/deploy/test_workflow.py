"""The commands of cd.yml name what is there."""

import itertools
import re
import shlex
from typing import Any

import helm_python
import pytest
import yaml

from tests.deploy.manifests import CHART, DEPLOY, OVERLAYS, Manifests, render

pytestmark = pytest.mark.long

ROOT = DEPLOY.parent
WORKFLOW: dict[str, Any] = yaml.safe_load((ROOT / ".github" / "workflows" / "cd.yml").read_text())
SCRIPT = "\n".join(step.get("run", "") for step in WORKFLOW["jobs"]["kubernetes"]["steps"]).replace("\\\n", "")


def test_every_overlay_is_applied_tested_and_deleted() -> None:
    for path in OVERLAYS.iterdir():
        name = path.relative_to(ROOT).as_posix()
        _, _, rest = SCRIPT.partition(f"kubectl apply -k {name}\n")
        before, found, _ = rest.partition(f"kubectl delete -k {name} ")
        assert "deploy/kubernetes/smoke_test.sh" in before
        assert found


def test_the_releases_of_the_chart_can_be_rendered_and_have_the_names_that_are_tested() -> None:
    releases = re.findall(r"^helm (?:install|upgrade) kv (\S+) (.*)$", SCRIPT, re.MULTILINE)
    assert len(releases) == 2
    for chart, flags in releases:
        assert ROOT / chart == CHART
        manifests = Manifests(tuple(filter(None, yaml.safe_load_all(render(values_of(flags))))))
        assert manifests.workload["kind"] == "StatefulSet"
        assert manifests.pod["metadata"]["labels"]["app.kubernetes.io/name"] == "memcache-kv"
        assert manifests.workload["metadata"]["name"] == "cache-memcache-kv"  # of the release "cache"
    assert "statefulset/kv-memcache-kv" in SCRIPT


def values_of(flags: str) -> dict[str, Any]:
    """Read the values of --set."""
    values: dict[str, Any] = {}
    words = shlex.split(flags)
    for before, word in itertools.pairwise(words):
        if before == "--set":
            for key, value in helm_python.parse_set_string(word).items():
                values[key] = values.get(key, {}) | value if isinstance(value, dict) else value
    return values
