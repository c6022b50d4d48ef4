"""deploy/prometheus and deploy/grafana: every expression names metrics that there are, and promtool accepts all of it.

The alerts of memcached-mixin and of awesome-prometheus-alerts, which people use with the exporter for memcached, find
their metrics too.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from memcache_kv.stats.exposition import Kind
from memcache_kv.stats.metrics import ALL_METRICS

ROOT = Path(__file__).parent.parent.parent
PROMETHEUS = ROOT / "deploy" / "prometheus"
RULES = PROMETHEUS / "memcache-kv.rules.yml"
RULE_TESTS = PROMETHEUS / "memcache-kv.rules.test.yml"
DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "memcache-kv.json").read_text())

OTHERS = [
    "memcached_up == 0",
    "(memcached_current_connections / memcached_max_connections * 100) > 80",
    "(memcached_current_connections / memcached_max_connections * 100) > 95",
    "sum without (slab) (rate(memcached_slab_items_outofmemory_total[5m])) > 0",
    "(memcached_current_bytes / memcached_limit_bytes) * 100 > 90",
    "rate(memcached_items_evicted_total[5m]) > 10",
    '(sum without (status) (rate(memcached_commands_total{command="get", status="hit"}[5m])) / '
    'sum without (status) (rate(memcached_commands_total{command="get"}[5m]))) * 100 < 80',
]
"""What the alerts of others look at."""

SERIES = {
    name: metric
    for metric in ALL_METRICS
    for name in (
        [f"{metric.name}_{part}" for part in ("bucket", "sum", "count")]
        if metric.kind is Kind.HISTOGRAM
        else [metric.name]
    )
}
"""The names in expressions, with the metrics that they belong to."""
PROMETHEUS_NAMES = {"up"}
"""What Prometheus itself adds of each target."""
TARGET_LABELS = {"instance", "job"}


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
    return found


def dashboard_expressions() -> list[str]:
    return [target["expr"] for panel in panels() for target in panel["targets"]]


ALL_EXPRESSIONS = [*(rule["expr"] for rule in rules()), *dashboard_expressions(), *OTHERS]


def names_in(expression: str) -> set[str]:
    """The names of metrics in an expression: words before a selector or a range, or apart from functions."""
    bare = re.sub(r'"[^"]*"', "", expression)
    bare = re.sub(r"\b(by|without|on|ignoring)\s*\([^)]*\)", "", bare)
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]", " ", bare)
    words = re.findall(r"[a-zA-Z_:][\w:]*(?!\w|\s*\()", bare)
    return set(words) - {"and", "or", "unless"}


def labels_in(expression: str) -> Iterator[tuple[str, str, str]]:
    """The names of metrics with each label that they are selected by, and its value."""
    for name, inside in re.findall(r"([a-zA-Z_:][\w:]*)\{([^}]*)\}", expression):
        for label, value in re.findall(r'(\w+)\s*(?:=~|!~|!=|=)\s*"([^"]*)"', inside):
            yield name, label, value


def test_the_names_of_an_expression_are_found() -> None:
    assert names_in('sum by (le, family) (rate(a_bucket{job=~"$job"}[5m])) / b > 5 and c') == {"a_bucket", "b", "c"}


@pytest.mark.parametrize("expression", ALL_EXPRESSIONS)
def test_an_expression_names_metrics_and_labels_that_there_are(expression: str) -> None:
    names = names_in(expression)
    assert names
    assert names <= SERIES.keys() | PROMETHEUS_NAMES
    for name, label, _ in labels_in(expression):
        known = TARGET_LABELS | (set(SERIES[name].labels) if name in SERIES else set())
        assert label in known | {"le"}


def test_counters_are_shown_as_rates_and_gauges_are_not() -> None:
    for expression in ALL_EXPRESSIONS:
        rated = set(re.findall(r"(?:rate|increase)\(([a-z_]\w*)", expression))
        for name in names_in(expression) - PROMETHEUS_NAMES:
            assert (name in rated) == (SERIES[name].kind is not Kind.GAUGE), expression


def test_panels_do_not_overlap_and_say_what_they_show() -> None:
    places: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not places & cells
        places |= cells
        assert panel["type"] == "row" or panel["description"]
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))


def test_the_dashboard_shows_what_an_operator_asks_for_first() -> None:
    shown = set().union(*map(names_in, dashboard_expressions()))
    assert {
        "memcache_kv_command_seconds_bucket", "memcached_commands_total", "memcache_kv_items_bytes",
        "memcache_kv_journal_lag_seconds", "memcache_kv_hidden_errors_total",
    } <= shown  # fmt: skip


# With Prometheus' own tool


@pytest.fixture
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not installed")
    return found


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, cwd=PROMETHEUS, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_accepts_configuration_and_rules(promtool: str) -> None:
    run(promtool, "check", "config", "prometheus.yml")
    run(promtool, "check", "rules", "--lint-fatal", RULES.name)


def test_each_alert_fires_where_it_should(promtool: str) -> None:
    run(promtool, "test", "rules", RULE_TESTS.name)
    tested = {
        each["alertname"]
        for test in yaml.safe_load(RULE_TESTS.read_text())["tests"]
        for each in test.get("alert_rule_test", [])
        if each["exp_alerts"]
    }
    assert tested == {rule["alert"] for rule in rules()}


def test_promtool_parses_every_expression(promtool: str, tmp_path: Path) -> None:
    expressions = [each.replace("$__rate_interval", "5m") for each in ALL_EXPRESSIONS]
    made = [{"record": f"expression:{number}", "expr": each} for number, each in enumerate(expressions)]
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": made}]}))
    run(promtool, "check", "rules", str(path))
