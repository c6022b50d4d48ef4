"""The files for Kubernetes: they fit the API and one another, and the server accepts what they give it.

There is no cluster here: cd.yml makes one, and applies them there.
"""

import json
import os
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import helm_python
import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from memcache_kv.cli import make_parser
from memcache_kv.version import VERSION
from tests.certificates import make_certificates
from tests.deploy.manifests import ALL, CHART, DEPLOY, OVERLAYS, chart, kustomized, overlay, render, selectors_in
from tests.deploy.pods import Pod
from tests.program import poll_until, run_to_its_end

pytestmark = pytest.mark.long

API_VERSIONS = ("1.28", kubernetes_validate.latest_version())
"""The oldest that the files are for, and the newest that is known here."""
FOREIGN_KINDS = {"ServiceMonitor"}
"""Kinds that are no part of Kubernetes itself."""
POD_INDEX = "apps.kubernetes.io/pod-index"
"""A label that Kubernetes gives to the pods of a StatefulSet."""
PAUSE_SECONDS = 20
"""What a node needs at most between the end of draining and its exit."""

everything = pytest.mark.parametrize("name", ALL)


@everything
@pytest.mark.parametrize("version", API_VERSIONS)
def test_the_api_knows_every_field(name: str, version: str) -> None:
    for each in ALL[name]().objects:
        if each["kind"] not in FOREIGN_KINDS:
            kubernetes_validate.validate(each, version, strict=True)


def test_a_field_that_the_api_does_not_know_is_found() -> None:
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {"port": []}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(service, API_VERSIONS[-1], strict=True)


@everything
def test_no_two_objects_have_one_name(name: str) -> None:
    names = [(each["kind"], each["metadata"]["name"]) for each in ALL[name]().objects]
    assert len(names) == len(set(names))


@everything
def test_every_selector_chooses_the_pods_and_no_others(name: str) -> None:
    manifests = ALL[name]()
    labels = manifests.pod["metadata"]["labels"]
    found = dict(selectors_in(manifests))
    assert len(found) >= 3
    for chooser, selector in found.items():
        chosen = {key: value for key, value in selector.items() if key != POD_INDEX}
        assert "app.kubernetes.io/name" in chosen, f"{chooser} chooses pods of others"
        assert chosen.items() <= labels.items(), chooser


@everything
def test_pods_need_no_rights_and_no_token(name: str) -> None:
    spec, container = ALL[name]().pod["spec"], ALL[name]().container
    merged = spec["securityContext"] | container["securityContext"]
    assert merged["runAsNonRoot"] is True
    assert merged["runAsUser"] == merged["runAsGroup"] == merged["fsGroup"] == 11211
    assert merged["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert spec["enableServiceLinks"] is False
    assert spec["automountServiceAccountToken"] is False


@everything
def test_probes_ask_the_admin_listener(name: str) -> None:
    container = ALL[name]().container
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    paths = {key: container[f"{key}Probe"]["httpGet"] for key in ("startup", "liveness", "readiness")}
    assert {key: get["path"] for key, get in paths.items()} == {
        "startup": "/livez", "liveness": "/livez", "readiness": "/readyz",
    }  # fmt: skip
    assert {get["port"] for get in paths.values()} == {"admin"}
    assert f"--admin-listen=0.0.0.0:{ports['admin']}" in container["args"]


@everything
def test_a_pod_has_the_time_to_drain(name: str) -> None:
    manifests = ALL[name]()
    [drain] = [int(word.partition("=")[2]) for word in manifests.container["args"] if word.startswith("--drain-")]
    assert drain > 0
    assert manifests.pod["spec"]["terminationGracePeriodSeconds"] >= drain + PAUSE_SECONDS


@everything
def test_everything_mounted_is_a_volume_and_everything_named_is_mounted(name: str) -> None:
    manifests = ALL[name]()
    volumes = {volume["name"] for volume in manifests.pod["spec"].get("volumes", [])}
    volumes |= {claim["metadata"]["name"] for claim in manifests.workload["spec"].get("volumeClaimTemplates", [])}
    mounts = {mount["name"]: mount["mountPath"] for mount in manifests.container.get("volumeMounts", [])}
    assert mounts.keys() == volumes
    named = re.findall(r"=(/\w[\w./-]*)", " ".join(manifests.container["args"]))
    assert all(any(path == at or path.startswith(f"{at}/") for at in mounts.values()) for path in named)


@everything
def test_memory_is_requested_as_it_is_limited(name: str) -> None:
    resources = ALL[name]().container["resources"]
    assert resources["requests"]["memory"] == resources["limits"]["memory"]
    assert "cpu" in resources["requests"]


@pytest.mark.skipif("--memory-plan" not in make_parser().format_help(), reason="this version prints no memory plan")
@pytest.mark.parametrize("name", ["overlay cache", "overlay durable", "overlay cluster", "chart with three nodes"])
def test_the_memory_limit_is_at_least_what_the_plan_of_the_server_says(name: str) -> None:
    container = ALL[name]().container
    known = ("--memory-limit=", "--conn-limit=", "--max-item-size=", "--journal=", "--fsync=")
    plan = run_to_its_end("--memory-plan", *(word for word in container["args"] if word.startswith(known)))
    [least] = re.findall(r"^Kubernetes: .*: (\d+)Mi$", plan.stdout, re.MULTILINE)
    assert mebibytes(container["resources"]["limits"]["memory"]) >= int(least)


def mebibytes(quantity: str) -> int:
    """Read a quantity of memory."""
    match = re.fullmatch(r"(\d+)(Mi|Gi)", quantity)
    assert match is not None
    return int(match[1]) << (10 if match[2] == "Gi" else 0)


@everything
def test_a_drained_machine_takes_some_node(name: str) -> None:
    manifests = ALL[name]()
    [budget] = manifests.of_kind("PodDisruptionBudget")
    assert budget["spec"].get("maxUnavailable") == 1 or budget["spec"].get("minAvailable") == "50%"


@pytest.mark.parametrize("name", [path.name for path in OVERLAYS.iterdir()])
def test_the_image_of_an_overlay_is_of_this_version(name: str) -> None:
    assert overlay(name).container["image"] == f"memcache_kv:{VERSION}"


def test_the_chart_is_of_this_version() -> None:
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"] == VERSION
    assert chart("the defaults").container["image"] == f"memcache_kv:{VERSION}"


@pytest.mark.parametrize("name", ["overlay cluster", "chart with three nodes"])
def test_every_node_of_a_cluster_has_an_address_that_clients_learn(name: str) -> None:
    manifests = ALL[name]()
    [data] = filter(None, map(manifests.files_of, manifests.container["volumeMounts"]))
    version, *nodes = [line for line in data["nodes"].splitlines() if not line.startswith("#")]
    assert version.isdigit()
    own = {
        each["metadata"]["name"]: each["spec"] for each in manifests.of_kind("Service") if POD_INDEX in
        each["spec"]["selector"]
    }  # fmt: skip
    assert [re.split(r"[.:]", node)[0] for node in nodes] == list(own)
    for index, spec in enumerate(own.values()):
        assert spec["selector"][POD_INDEX] == str(index)
        assert {node.rpartition(":")[2] for node in nodes} == {str(port["port"]) for port in spec["ports"]}
    assert len(own) == manifests.workload["spec"]["replicas"] == 3


# The page


PAGE = (DEPLOY.parent / "docs" / "howto" / "kubernetes.md").read_text()


def test_the_overlay_of_the_page_changes_what_it_says(tmp_path: Path) -> None:
    [text] = re.findall("^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    (tmp_path / "kustomization.yaml").write_text(
        text.replace("https://git.example/memcache_kv//deploy", os.path.relpath(DEPLOY, tmp_path))
    )
    manifests = kustomized(tmp_path)
    container = manifests.container
    assert {each["metadata"]["namespace"] for each in manifests.objects} == {"shop"}
    assert container["image"] == "registry.example/memcache_kv:0.1.0"
    assert container["args"][0] == "--memory-limit=1024"
    assert container["resources"]["limits"]["memory"] == container["resources"]["requests"]["memory"] == "2400Mi"


def test_the_release_of_the_page_is_a_store() -> None:
    [flags] = re.findall("^helm install cache deploy/helm/memcache-kv (.*)$", PAGE, re.MULTILINE)
    values: dict[str, Any] = {}
    for value in re.findall(r"--set (\S+)", flags):
        values |= helm_python.parse_set_string(value)
    text = render(values)
    assert "image: registry.example/memcache_kv:" in text
    assert "--journal=/data" in text


def test_the_page_names_values_of_the_chart() -> None:
    named = {word.partition(".")[0] for word in re.findall(r"`([a-zA-Z.*]+)`", PAGE)}
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert {"image", "architecture", "memoryLimit", "auth", "persistence", "metrics", "pdb"} <= named & values.keys()


def compare(schema: dict[str, Any], values: dict[str, Any], path: str = "") -> None:
    """Compare the names that a schema allows with those that there are."""
    assert schema["properties"].keys() == values.keys(), path
    for name, part in schema["properties"].items():
        if "properties" in part:
            compare(part, values[name], f"{path}.{name}")


def test_the_chart_allows_the_values_that_it_has_and_no_others() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    compare(schema, yaml.safe_load((CHART / "values.yaml").read_text()))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"autoscaling": {"enabled": True}}, "autoscaling"),
        ({"image": {"tga": "1"}}, "tga"),
        ({"architecture": "cluster"}, "architecture"),
        ({"replicaCount": 2}, "high-availability"),
        ({"auth": {"enabled": True, "username": "ann"}}, "auth.password"),
        ({"tls": {"enabled": True}}, "tls.existingSecret"),
        ({"terminationGracePeriodSeconds": 10}, "drainSeconds"),
        ({"pdb": {"minAvailable": 1, "maxUnavailable": 1}}, "exclude each other"),
    ],
)
def test_values_that_can_not_be_meant_are_an_error(values: dict[str, Any], said: str) -> None:
    with pytest.raises(helm_python.HelmError, match=said):
        render(values)


def test_helm_finds_no_fault_with_the_chart() -> None:
    report = helm_python.lint(os.fspath(CHART), strict=True)
    assert report["errors"] == []
    assert [each for each in report["messages"] if each["severity"] > 1] == []


# The server itself, with what a container gets


RUN = [name for name in ALL if name not in ("chart with a login of another secret", "chart with much else")]
"""What can run without objects that the test would have to make up."""


def make_secrets(folder: Path) -> None:
    """Put what the Secrets of the chart's users contain where they are mounted."""
    if (folder / "token").exists():
        (folder / "token" / "token").write_text("open-sesame\n")
    if (folder / "tls").exists():
        made = make_certificates(folder / "made")
        found = dict(word.split("=", 1) for word in made.suboptions.split(","))
        shutil.copy(found["ssl_chain_cert"], folder / "tls" / "tls.crt")
        shutil.copy(found["ssl_key"], folder / "tls" / "tls.key")
        shutil.copy(made.authority, folder / "tls" / "ca.crt")
    if (folder / "auth").exists():
        (folder / "auth" / "users").write_text("ann:sec:ret\n")
        (folder / "auth" / "memcached-password").write_text("sec:ret")


@pytest.mark.parametrize(
    "name", [name if name.startswith("overlay") else pytest.param(name, marks=pytest.mark.long) for name in RUN]
)
def test_a_node_starts_with_the_arguments_of_its_container_and_drains(name: str, tmp_path: Path) -> None:
    pod = Pod(ALL[name](), tmp_path)
    make_secrets(tmp_path)
    with pod.start() as server:
        poll_until(lambda: pod.probe("startup") == 200, "the startup probe succeeds")
        assert pod.probe("liveness") == 200
        pod.poll_until_ready()
        asks_for_more = any(word in name for word in ("TLS", "login", "users"))
        if not asks_for_more:
            assert server.ask(b"set kept 0 0 5\r\nhello\r\n") == b"STORED\r\n"
        server.process.send_signal(signal.SIGTERM)
        pod.poll_until_draining()
        assert pod.probe("liveness") == 200
        if not asks_for_more:
            assert server.ask(b"get kept\r\n") == b"VALUE kept 0 5\r\n"
        assert server.end() == 0  # a second signal ends the draining
    if "data" in {path.name for path in tmp_path.iterdir()}:
        with pod.start() as server:
            pod.poll_until_ready()
            assert server.ask(b"get kept\r\n") == b"VALUE kept 0 5\r\n"


def test_a_node_of_the_cluster_tells_clients_of_all_nodes(tmp_path: Path) -> None:
    pod = Pod(overlay("cluster"), tmp_path)
    with pod.start() as server:
        assert server.ask(b"config get cluster\r\n").startswith(b"CONFIG cluster 0 ")
        server.wait_for(b"with 3 nodes")


@pytest.mark.parametrize("name", ["a login", "a users file"])
def test_the_login_of_the_chart_is_asked_for_in_both_protocols(name: str, tmp_path: Path) -> None:
    pod = Pod(chart(name), tmp_path)
    make_secrets(tmp_path)
    with pod.start() as server:
        assert server.ask(b"get a\r\n").startswith(b"CLIENT_ERROR")
        assert server.ask(b"set auth 0 0 11\r\nann sec:ret\r\n") == b"STORED\r\n"
        assert server.ask_in_binary(bytes([0x80, 0x20]).ljust(24, b"\0")) == b"\x81\x20"
