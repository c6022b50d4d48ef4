"""What can be known of deploy/cluster/compose.yaml without Docker: it fits the other files and our flags."""

import re
from typing import Any

import pytest

from tests.deploy.cluster import FILES, HTTP_PORT, MEMCACHED_PORT, NODES, read_compose

SERVICES: dict[str, dict[str, Any]] = read_compose()["services"]


def published(service: str) -> set[int]:
    """The ports inside a container that are published."""
    return {int(port.rpartition(":")[2]) for port in SERVICES[service]["ports"]}


def test_the_nodes_are_three_alike_with_a_journal_each_in_a_volume() -> None:
    assert [name for name in SERVICES if name.startswith("node")] == list(NODES)
    assert set(NODES) == set(read_compose()["volumes"])
    for name in NODES:
        assert SERVICES[name]["command"] == SERVICES["node1"]["command"]
        assert SERVICES[name]["volumes"] == [f"{name}:/data"]
        assert published(name) == {MEMCACHED_PORT, HTTP_PORT}
        assert (FILES / SERVICES[name]["build"]["context"] / "Dockerfile").exists()


def test_the_image_has_what_the_flags_of_the_nodes_need() -> None:
    [extras] = re.findall(r" install --no-cache-dir \"\.\[(.*)\]\"", (FILES / "../../Dockerfile").read_text())
    assert "--http-listen" in SERVICES["node1"]["command"]
    assert "http" in extras.split(",")


def test_everything_is_published_on_loopback_and_once() -> None:
    outside = [
        port.rpartition(":")[0] for service in SERVICES.values() for port in service["ports"]
        if "profiles" not in service or service["profiles"] == ["failover"]
    ]  # fmt: skip
    assert all(address.startswith("127.0.0.1:") for address in outside)
    assert len(outside) == len(set(outside))


@pytest.mark.parametrize("service", SERVICES)
def test_no_service_has_more_rights_than_it_needs(service: str) -> None:
    assert SERVICES[service]["read_only"] is True
    assert SERVICES[service]["cap_drop"] == ["ALL"]
    assert SERVICES[service]["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize("service", SERVICES)
def test_every_file_that_is_mounted_exists(service: str) -> None:
    mounted = [volume.split(":")[0] for volume in SERVICES[service].get("volumes", []) if volume.startswith(".")]
    assert all((FILES / path).is_file() for path in mounted)


def test_the_ports_of_the_proxies_are_published() -> None:
    nginx = {int(port) for port in re.findall(r"^ *listen (\d+);", (FILES / "nginx.conf").read_text(), re.MULTILINE)}
    twemproxy = re.findall(r"^ *listen: .*:(\d+)$", (FILES / "twemproxy.yaml").read_text(), re.MULTILINE)
    assert published("nginx") == nginx
    assert published("twemproxy") == {int(port) for port in twemproxy}


@pytest.mark.parametrize("file", ["nginx.conf", "twemproxy.yaml", "failover.lua", "replicate.lua"])
def test_the_files_name_the_nodes_and_no_other_host(file: str) -> None:
    text = (FILES / file).read_text()
    assert set(re.findall(r"[\w.-]+(?=:(?:11211|8080)\b)", text)) == set(NODES)
