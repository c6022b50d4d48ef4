"""The objects that deploy/kubernetes and deploy/helm make, rendered by kustomize and by Helm themselves."""

import functools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import helm_python
import yaml

DEPLOY = Path(__file__).resolve().parent.parent.parent / "deploy"
OVERLAYS = DEPLOY / "kubernetes" / "overlays"
CHART = DEPLOY / "helm" / "memcache-kv"
KUBECTL = Path(sys.executable).parent / "kubectl"
"""kubectl of the package index, which has kustomize."""

Object = dict[str, Any]

CHART_VALUES: dict[str, dict[str, Any]] = {
    "the defaults": {},
    "a store": {"persistence": {"enabled": True, "fsync": "always"}},
    "three nodes": {"architecture": "high-availability", "replicaCount": 3, "persistence": {"enabled": True}},
    "a login": {"auth": {"enabled": True, "username": "ann", "password": "sec:ret"}},
    "a login of another secret": {"auth": {"enabled": True, "username": "ann", "existingPasswordSecret": "password"}},
    "a users file": {"auth": {"enabled": True, "existingUsersSecret": "users"}},
    "TLS": {"tls": {"enabled": True, "existingSecret": "certificate", "requireClientCertificates": True}},
    "metrics": {
        "metrics": {
            "enabled": True,
            "existingTokenSecret": "token",
            "serviceMonitor": {"enabled": True, "interval": "15s", "labels": {"release": "prometheus"}},
        }
    },
    "much else": {
        "fullnameOverride": "kv",
        "global": {"imageRegistry": "registry.example:5000", "imagePullSecrets": ["puller"]},
        "image": {"digest": "sha256:" + "0" * 64, "pullSecrets": [{"name": "other"}]},
        "commonLabels": {"team": "caches"},
        "commonAnnotations": {"owner": "{{ .Release.Name }}"},
        "podLabels": {"tier": "cache"},
        "podAnnotations": {"example.com/checked": "yes"},
        "memoryLimit": 256,
        "maxItemSize": "8m",
        "extraArgs": ["--log-format=json"],
        "extraEnvVars": [{"name": "MEMCACHE_KV_LOG_LEVEL", "value": "warning"}],
        "extraEnvVarsCM": "variables",
        "extraEnvVarsSecret": "secrets",
        "containerPorts": {"memcached": 11311, "admin": 9151},
        "podAntiAffinityPreset": "hard",
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"key": "cache", "operator": "Exists"}],
        "topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "ScheduleAnyway"}
        ],
        "priorityClassName": "high",
        "extraVolumes": [{"name": "scratch", "emptyDir": {}}],
        "extraVolumeMounts": [{"name": "scratch", "mountPath": "/scratch"}],
        "service": {
            "type": "LoadBalancer",
            "ports": {"memcached": 11222},
            "nodePorts": {"memcached": 31211},
            "loadBalancerSourceRanges": ["10.0.0.0/8"],
            "annotations": {"example.com/internal": "true"},
        },
        "networkPolicy": {
            "allowExternal": False,
            "allowExternalEgress": False,
            "ingressPodMatchLabels": {"app": "shop"},
            "ingressNSMatchLabels": {"team": "shop"},
            "ingressNSPodMatchLabels": {"app": "shop"},
        },
        "pdb": {"minAvailable": "50%"},
        "extraDeploy": ["apiVersion: v1\nkind: ConfigMap\nmetadata: {name: '{{ .Release.Name }}-extra'}"],
    },
}


class Manifests(NamedTuple):
    """What kubectl would apply."""

    objects: tuple[Object, ...]

    def of_kind(self, *kinds: str) -> list[Object]:
        return [each for each in self.objects if each["kind"] in kinds]

    @property
    def workload(self) -> Object:
        [found] = self.of_kind("Deployment", "StatefulSet")
        return found

    @property
    def pod(self) -> Object:
        """The template of the pods: its metadata and its spec."""
        template = self.workload["spec"]["template"]
        assert isinstance(template, dict)
        return template

    @property
    def container(self) -> Object:
        [found] = self.pod["spec"]["containers"]
        assert isinstance(found, dict)
        return found

    def files_of(self, mount: Object) -> dict[str, str] | None:
        """The files of a mounted ConfigMap, by name; None for a volume of another kind."""
        volumes = {volume["name"]: volume for volume in self.pod["spec"].get("volumes", [])}
        source = volumes.get(mount["name"], {}).get("configMap")
        if source is None:
            return None
        [data] = [each["data"] for each in self.of_kind("ConfigMap") if each["metadata"]["name"] == source["name"]]
        assert isinstance(data, dict)
        return data


def kustomized(folder: Path) -> Manifests:
    """Build a kustomization."""
    return Manifests(tuple(yaml.safe_load_all(subprocess.check_output([KUBECTL, "kustomize", folder], text=True))))


@functools.cache
def overlay(name: str) -> Manifests:
    """Build an overlay of deploy/kubernetes."""
    return kustomized(OVERLAYS / name)


def render(values: dict[str, Any], namespace: str = "shop") -> str:
    """Render the chart with these values, as `helm template` does; the notes are no part of it."""
    chart = helm_python.Chart.load(os.fspath(CHART))
    rendered = chart.render(values, name="cache", namespace=namespace)
    return "\n---\n".join(text for path, text in rendered.items() if not path.endswith(".txt"))


@functools.cache
def chart(name: str) -> Manifests:
    """Render the chart with one of the sets of values above."""
    return Manifests(tuple(filter(None, yaml.safe_load_all(render(CHART_VALUES[name])))))


ALL = {
    **{f"overlay {path.name}": functools.partial(overlay, path.name) for path in sorted(OVERLAYS.iterdir())},
    **{f"chart with {name}": functools.partial(chart, name) for name in CHART_VALUES},
}
"""Everything that is rendered, by name."""


def selectors_in(manifests: Manifests) -> Iterator[tuple[str, dict[str, str]]]:
    """The labels by which each object chooses pods, with the object's name."""
    for each in manifests.objects:
        name = f"{each['kind']} {each['metadata']['name']}"
        match each["kind"]:
            case "Service":
                yield name, each["spec"]["selector"]
            case "NetworkPolicy":
                yield name, each["spec"]["podSelector"]["matchLabels"]
            case "PodDisruptionBudget" | "StatefulSet" | "Deployment":
                yield name, each["spec"]["selector"]["matchLabels"]
