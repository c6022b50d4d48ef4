"""A whole run of `aws.sh`, from nothing to nothing."""

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.aws.account import Account
from tests.deploy.aws.deployment import ROOT, Deployment
from tests.program import PATIENCE_SECONDS

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]


def ask(address: str, port: str, request: bytes) -> bytes:
    """Send a request to a server; return the first line of its reply."""
    with socket.create_connection((address, int(port)), timeout=PATIENCE_SECONDS) as connection:
        connection.sendall(request)
        return connection.makefile("rb").readline()


def load_result(folder: Path, protocol: str) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((folder / f"{protocol}.json").read_text())
    page = (folder / f"{protocol}.html").read_text()
    assert page.startswith("<!doctype html>")
    assert page.rstrip().endswith("</html>")
    return result


def test_a_server_is_made_deployed_loaded_and_removed(deployment: Deployment, account: Account) -> None:
    assert "nothing exists" in deployment.run("status", status=1)
    said = deployment.run("deploy", status=1)
    assert "docker has no image memcache_kv" in said
    assert "docker build -t memcache_kv" in said
    deployment.keep_image("memcache_kv")
    said = deployment.run("deploy", status=1)
    assert "there is no server of trial" in said
    assert "run aws.sh create" in said

    deployment.create()
    server, client = deployment.boot("server", has_docker=False), deployment.boot("client")
    said = deployment.run("status", status=1)
    assert "container: missing" in said
    assert "run aws.sh deploy" in said
    said = deployment.run("test", status=1)
    assert "the server does not answer" in said

    said = deployment.run("deploy")
    assert "starting memcache_kv" in said
    assert any("docker.io" in call for call in server.calls)
    private = account.instance("server")["PrivateIpAddress"]
    line, memcached = deployment.ports["LINE_PORT"], deployment.ports["MEMCACHED_PORT"]
    assert ask(private, line, b"PUT greeting hello\n") == b"OK stored\n"
    assert ask(private, memcached, b"get greeting\r\n") == b"VALUE greeting 0 5\r\n"
    said = deployment.run("status")
    assert "container: running" in said
    assert f"127.0.0.1:{memcached}: " in said
    assert "so far at $0.08925 an hour" in said

    status_of_test, said = deployment.attempt("test", "--requests", "20", "--connections", "10")
    [run] = deployment.runs()
    for protocol, port in (("line", line), ("text", memcached)):
        result = load_result(run, protocol)
        [figures] = result["measurements"]
        assert result["load"]["address"] == f"{private}:{port}"
        assert result["load"]["protocol"] == protocol
        assert [result["load"][name] for name in ("ratio", "key_size", "value_size", "ttl")] == [0.5, 16, 64, 0]
        assert figures["requests"] == 200
        assert figures["errors"] == 0
        assert figures["hit_rate"] == 1.0
    results = [load_result(run, protocol)["passed"] for protocol in ("line", "text")]
    assert status_of_test == (0 if all(results) else 1)
    assert ("all targets are met" in said) is all(results)
    about = (run / "about.txt").read_text()
    assert "server: c7i.large, Linux" in about
    assert "memcache_kv" in about

    elsewhere = deployment.folder / "elsewhere"
    assert f"results of all runs: {elsewhere}; the last is {run.name}" in deployment.run("results", str(elsewhere))
    assert {path.name for path in (elsewhere / run.name).iterdir()} == {
        "about.txt", "line.json", "line.html", "text.json", "text.html",
    }  # fmt: skip
    assert deployment.run("ssh", "client", "echo 'two  words'; pwd") == f"two  words\n{client.home}\n"
    deployment.run("ssh", "server", "exit", "7", status=7)

    said = deployment.run("teardown", status=1)
    assert "there is no terminal to ask on" in said
    said = deployment.run("teardown", "--yes")
    assert "everything is gone" in said
    assert [account.key_pairs(), account.groups(), account.instances(), account.volumes()] == [[], [], [], []]
    assert "nothing to remove" in deployment.run("teardown", "--yes")
    assert "nothing exists" in deployment.run("status", status=1)


def test_a_new_version_takes_the_place_of_the_old_one_and_finds_its_items(
    deployment: Deployment, account: Account
) -> None:
    deployment.create()
    server = deployment.boot("server")
    deployment.boot("client")
    deployment.configure(
        IMAGE_SOURCE="registry", IMAGE="registry.example/kv:1", SERVER_OPTIONS="(-m 64 --journal /data --fsync always)"
    )
    private = account.instance("server")["PrivateIpAddress"]
    deployment.run("deploy")
    assert ask(private, deployment.ports["MEMCACHED_PORT"], b"set kept 7 0 5\r\nvalue\r\n") == b"STORED\r\n"
    [run] = [call for call in server.docker_calls if call[:2] == ["run", "-d"]]
    assert run[run.index("-v") + 1] == "memcache-kv:/data"
    assert run[run.index("--network") :][:2] == ["--network", "host"]

    wheel = deployment.folder / "memcache_kv-0.1.0-cp312-cp312-linux_x86_64.whl"
    wheel.write_bytes(b"a wheel")
    deployment.configure(
        IMAGE_SOURCE="wheel", WHEEL=str(wheel), SERVER_OPTIONS="(-m 64 --journal /data --fsync always)"
    )
    deployment.run("deploy")
    built = server.image("memcache-kv-of-wheel")
    assert built["files"] == ["Dockerfile", wheel.name]
    assert "FROM python:3.12-slim" in built["dockerfile"]
    assert f'"/{wheel.name}[auth,http,progress]" && install -d -o 11211 -g 11211 /data' in built["dockerfile"]
    assert ask(private, deployment.ports["MEMCACHED_PORT"], b"get kept\r\n") == b"VALUE kept 7 5\r\n"

    deployment.configure(IMAGE_SOURCE="registry", SERVER_OPTIONS="(--nonsense)")
    said = deployment.run("deploy", status=1)
    assert "--nonsense" in said
    assert "check SERVER_OPTIONS" in said


def test_a_deploy_that_waits_for_an_instance_can_be_interrupted(deployment: Deployment) -> None:
    deployment.keep_image("memcache_kv")
    deployment.create()
    said = deployment.run("status", status=1)
    assert "no SSH to the server" in said
    with deployment.start("deploy") as process:
        assert process.stdout is not None
        while "waiting for SSH" not in (line := process.stdout.readline()):
            assert line
        process.terminate()
        said = process.stdout.read()
    assert process.returncode == 130
    assert "interrupted in the middle of deploy" in said
    assert "until teardown" in said


def test_the_load_is_the_one_that_is_documented() -> None:
    script = (ROOT / "deploy" / "aws" / "lib" / "load_test.sh").read_text()
    assert "--connections 100 --requests 1000 --ratio 0.5 --key-size 16 --value-size 64 --ttl 0" in script
