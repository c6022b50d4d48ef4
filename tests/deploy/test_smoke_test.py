"""deploy/kubernetes/smoke_test.sh against a server here; a stand-in for kubectl does what needs a cluster."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.manifests import OVERLAYS, overlay
from tests.deploy.pods import Pod
from tests.program import Image, poll_until

pytestmark = pytest.mark.long

STAND_IN = """#!{python}
import json, os, pathlib, signal, subprocess, sys, time
folder = pathlib.Path({folder!r})
words = sys.argv[1:]
with (folder / "calls").open("a") as file:
    file.write(" ".join(words) + "\\n")
state = json.loads((folder / "state").read_text())
assert words[:2] == ["--namespace", "shop"]
match words[2:]:
    case ["rollout", "status", "statefulset/kv", *_]:
        pass
    case ["get", "pods", "--selector", "app=kv", "--output", "name"]:
        print("pod/kv-0")
    case ["port-forward", "pod/kv-0", ":11211", ":9150"]:
        print(f"Forwarding from 127.0.0.1:{{state['memcached']}} -> 11211", flush=True)
        print(f"Forwarding from [::1]:{{state['memcached']}} -> 11211", flush=True)
        print(f"Forwarding from 127.0.0.1:{{state['admin']}} -> 9150", flush=True)
        time.sleep(600)
    case ["exec", "pod/kv-0", "-c", "memcache-kv", "--", "memcache-kv", *rest]:
        address = f"127.0.0.1:{{state['memcached']}}"
        sys.exit(subprocess.run([sys.executable, "-m", "memcache_kv", *rest, "--address", address]).returncode)
    case ["delete", "pod/kv-0", "--wait=true"]:
        (folder / "delete").touch()
        while (folder / "delete").exists():
            time.sleep(0.01)
    case ["wait", "--for=condition=Ready", "pod/kv-0", *_]:
        pass
    case _:
        sys.exit(f"the stand-in does not know {{words}}")
"""
"""In place of kubectl: what needs a cluster. The ports lead to a server here instead of to a pod."""
SMOKE_TEST = OVERLAYS.parent / "smoke_test.sh"


class SmokeTest:
    """The script, running beside a server that the test has."""

    def __init__(self, folder: Path, pod: Pod, *arguments: str) -> None:
        self._folder = folder
        bin_folder = folder / "bin"
        bin_folder.mkdir()
        (bin_folder / "kubectl").write_text(STAND_IN.format(python=sys.executable, folder=str(folder)))
        (bin_folder / "kubectl").chmod(0o755)
        (folder / "state").write_text(json.dumps(pod.ports))
        self.process = subprocess.Popen(
            [SMOKE_TEST, "-n", "shop", "-l", "app=kv", "-w", "statefulset/kv", *arguments],
            env=os.environ | {"PATH": f"{bin_folder}:{os.environ['PATH']}"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def wants_a_restart(self) -> bool:
        """Whether it has asked for the pod's deletion, or has ended."""
        return (self._folder / "delete").exists() or self.process.poll() is not None

    def restarted(self) -> None:
        """Tell it that the pod is gone, and another one there."""
        (self._folder / "delete").unlink()

    def end(self) -> tuple[int, str]:
        """Wait for its end; return the status and what it said."""
        said = self.process.communicate(timeout=120)[0]
        return self.process.returncode, said


def started(name: str, folder: Path) -> tuple[Pod, Image]:
    """Start a node of an overlay, and wait until it is ready."""
    pod = Pod(overlay(name), folder)
    server = pod.start()
    pod.poll_until_ready()
    return pod, server


def test_the_smoke_test_passes_with_a_node_that_works(tmp_path: Path) -> None:
    pod, server = started("cache", tmp_path)
    with server:
        status, said = SmokeTest(tmp_path, pod).end()
        assert (status, said.splitlines()[-1]) == (0, "all is well"), said
        assert "ok: pod/kv-0" in said


@pytest.mark.parametrize(
    ("overlay_name", "keeps"), [("durable", True), pytest.param("cache", False, marks=pytest.mark.long)]
)
def test_the_smoke_test_sees_whether_a_replaced_pod_kept_a_value(
    tmp_path: Path, overlay_name: str, keeps: bool
) -> None:
    pod, server = started(overlay_name, tmp_path)
    with server:
        smoke_test = SmokeTest(tmp_path, pod, "--restart")
        poll_until(smoke_test.wants_a_restart, "the smoke test deletes the pod")
        server.process.send_signal(signal.SIGTERM)
        pod.poll_until_draining()
        assert server.end() == 0, smoke_test.end()
    with pod.start():
        pod.poll_until_ready()
        smoke_test.restarted()
        status, said = smoke_test.end()
    assert status == (0 if keeps else 1), said
    assert ("kept a value" in said) is keeps
    assert ("FAILED: pod/kv-0: get after a restart" in said) is not keeps


@pytest.mark.long
def test_the_smoke_test_fails_where_a_node_does_not_get_ready(tmp_path: Path) -> None:
    pod, server = started("cache", tmp_path)
    with server:
        server.process.send_signal(signal.SIGTERM)
        pod.poll_until_draining()
        status, said = SmokeTest(tmp_path, pod).end()
    assert status == 1
    assert "FAILED: pod/kv-0: /readyz" in said


def test_the_smoke_test_knows_its_arguments(tmp_path: Path) -> None:
    done = subprocess.run([SMOKE_TEST, "--nonsense"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--nonsense" in done.stderr
