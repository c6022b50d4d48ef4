"""What can be known of deploy/compose without a container engine: files that fit, and a node that starts by them."""

import fnmatch
import re
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from tests.deploy.cluster import Running, program_of
from tests.ports import free_port
from tests.program import Image, run_to_its_end

DEPLOY = Path(__file__).resolve().parent.parent.parent / "deploy"
FILES = DEPLOY / "compose"
COMPOSE_FILES = [FILES / "compose.yaml", DEPLOY / "cluster" / "compose.yaml"]


def read(path: Path) -> dict[str, Any]:
    """Read a file of YAML."""
    parsed = yaml.safe_load(path.read_text())
    assert isinstance(parsed, dict)
    return parsed


SERVICES: dict[str, dict[str, Any]] = read(FILES / "compose.yaml")["services"]
NODE = SERVICES["memcache-kv"]


@pytest.mark.skipif(bool(sysconfig.get_config_var("Py_GIL_DISABLED")), reason="compose-spec has no wheel there")
@pytest.mark.parametrize("path", COMPOSE_FILES, ids=lambda path: path.parent.name)
def test_a_compose_file_is_as_the_specification_says(path: Path) -> None:
    import compose_spec  # not on every interpreter

    # Without the anchors of YAML, which it does not know.
    services = compose_spec.PyCompose.from_yaml(yaml.safe_dump(read(path))).service_names()
    assert sorted(services) == sorted(read(path)["services"])
    with pytest.raises(ValueError, match="read-only"):
        compose_spec.PyCompose.from_yaml("services: {a: {image: b, read-only: true}}")


def mounts() -> Iterator[tuple[str, Path, str]]:
    """Each file or directory of ours that a service gets: the service, the path here, the path inside."""
    for name, service in SERVICES.items():
        for volume in service.get("volumes", []):
            source, target, *_ = volume.split(":")
            if source.startswith("."):
                yield name, (FILES / source).resolve(), target


@pytest.mark.parametrize("service", SERVICES)
def test_no_service_has_more_rights_than_it_needs(service: str) -> None:
    assert SERVICES[service]["read_only"] is True
    assert SERVICES[service]["cap_drop"] == ["ALL"]
    assert SERVICES[service]["security_opt"] == ["no-new-privileges:true"]
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[service]["ports"])


def test_what_is_written_goes_to_volumes() -> None:
    volumes = {volume.split(":")[0] for service in SERVICES.values() for volume in service["volumes"]}
    assert {name for name in volumes if not name.startswith(".")} == set(read(FILES / "compose.yaml")["volumes"])


def test_what_is_mounted_is_ours_and_cannot_be_written_to() -> None:
    found = list(mounts())
    assert {path.relative_to(DEPLOY).parts[0] for _, path, _ in found} == {"compose", "prometheus", "grafana"}
    assert all(path.is_file() for _, path, _ in found if path.is_relative_to(FILES))
    assert all(volume.endswith(":ro") for each in SERVICES.values() for volume in each["volumes"] if volume[0] == ".")


def test_prometheus_accepts_its_file_and_scrapes_the_admin_listener() -> None:

    path = FILES / "prometheus.yml"
    promtool = program_of("prometheus", "promtool")
    subprocess.run([promtool, "check", "config", "--syntax-only", path], check=True, capture_output=True, timeout=60)
    targets = [
        target for job in read(path)["scrape_configs"] for each in job["static_configs"] for target in each["targets"]
    ]
    assert "memcache-kv:9150" in targets
    assert "--admin-listen=0.0.0.0:9150" in NODE["command"]
    [rules] = read(path)["rule_files"]
    assert any(name == "prometheus" and rules.startswith(f"{inside}/") for name, _, inside in mounts())
    assert fnmatch.fnmatch("memcache-kv.rules.yml", Path(rules).name)
    assert not fnmatch.fnmatch("memcache-kv.rules.test.yml", Path(rules).name)  # of promtool


@pytest.mark.long
def test_prometheus_scrapes_the_node_by_its_file(tmp_path: Path) -> None:
    ports = {"node": free_port(), "admin": free_port(), "prometheus": free_port()}
    text = (FILES / "prometheus.yml").read_text().replace("memcache-kv:9150", f"127.0.0.1:{ports['admin']}")
    (tmp_path / "prometheus.yml").write_text(text.replace("scrape_interval: 15s", "scrape_interval: 1s"))
    flags = [word.replace("0.0.0.0:9150", f"127.0.0.1:{ports['admin']}") for word in NODE["command"]]
    with Image(*flags, MEMCACHE_KV_LISTEN=f"127.0.0.1:{ports['node']}"):
        words = [program_of("prometheus", "prometheus"), f"--config.file={tmp_path / 'prometheus.yml'}"]
        words += [f"--storage.tsdb.path={tmp_path / 'data'}", f"--web.listen-address=127.0.0.1:{ports['prometheus']}"]
        running = Running(words, tmp_path / "log")
        try:
            running.wait_until(
                lambda: value_of("memcached_up", ports["prometheus"]) == "1", "Prometheus has the metrics"
            )
        finally:
            running.end()


def value_of(name: str, port: int) -> str | None:
    """Ask Prometheus for the value of a metric of the node; None while there is none."""
    query = {"query": f'{name}{{job="memcached"}}'}
    try:
        reply = requests.get(f"http://127.0.0.1:{port}/api/v1/query", query, timeout=30)
    except requests.ConnectionError:
        return None
    if reply.status_code == requests.codes.unavailable:  # it is still starting
        return None
    found = reply.json()["data"]["result"]
    return str(found[0]["value"][1]) if found else None


def test_grafana_is_given_the_source_and_the_directory_of_the_dashboard() -> None:
    [source] = read(FILES / "grafana" / "datasources.yaml")["datasources"]
    assert source["url"] == "http://prometheus:9090"
    [provider] = read(FILES / "grafana" / "dashboards.yaml")["providers"]
    inside = {path.relative_to(DEPLOY).parts[0]: target for name, path, target in mounts() if name == "grafana"}
    assert provider["options"]["path"] == inside["grafana"]


def test_the_node_starts_with_the_flags_of_the_file_and_a_journal_in_its_volume(tmp_path: Path) -> None:
    """In the image, the volume at /data turns the journal on; here a variable stands in for the volume."""
    assert "data:/data" in NODE["volumes"]
    ports = {11211: free_port(), 9150: free_port()}
    assert {int(port.rpartition(":")[2]) for port in NODE["ports"]} == set(ports)
    flags = [word.replace("0.0.0.0:9150", f"127.0.0.1:{ports[9150]}") for word in NODE["command"]]
    here = {"MEMCACHE_KV_LISTEN": f"127.0.0.1:{ports[11211]}", "MEMCACHE_KV_JOURNAL": str(tmp_path / "data")}
    with Image(*flags, **here) as server:
        assert server.ask(b"set a 0 0 1\r\nx\r\n") == b"STORED\r\n"
        health = run_to_its_end("health", "--address", f"127.0.0.1:{ports[11211]}")
        assert health.returncode == 0, health.stderr
        assert server.end() == 0
    assert (tmp_path / "data" / "manifest.json").exists()


def test_a_stop_waits_longer_than_the_node_drains() -> None:
    [drain] = [int(word.partition("=")[2]) for word in NODE["command"] if word.startswith("--drain-seconds=")]
    [patience] = re.findall(r"^(\d+)s$", NODE["stop_grace_period"])
    assert int(patience) >= drain + 20
