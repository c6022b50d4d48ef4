"""`aws.sh` with a configuration of its own."""

import getpass
import os
import signal
import subprocess
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.deploy.aws.account import AMI_PARAMETER, PROGRAMS, REGION, Account
from tests.deploy.aws.instance import Instance, write_docker
from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = ROOT / "deploy" / "aws" / "aws.sh"
ME = "203.0.113.7/32"
SECONDS = 280
"""Longer than any command takes on a busy machine."""


class Deployment:
    """A configuration, and what is done with it. folder: the machine of its user."""

    def __init__(self, folder: Path, account: Account, name: str = "trial") -> None:
        self.folder, self.account, self.name = folder, account, name
        self.ports = {each: str(free_port()) for each in ("LINE_PORT", "MEMCACHED_PORT", "SSH_PORT")}
        self._bin = folder / "bin"
        self._bin.mkdir(parents=True)
        self.docker_state = folder / "docker"
        write_docker(self._bin / "docker", self.docker_state)
        self._running = ExitStack()
        self.configure()

    def configure(self, **settings: str) -> None:
        """Write the configuration, with these settings in place of the test's own."""
        chosen = {
            "REGION": REGION,
            "NAME": self.name,
            "AMI_PARAMETER": AMI_PARAMETER,
            "KEY_FILE": f"{self.folder}/key",
            "SUBNET_ID": self.account.subnet,
            "MY_ADDRESS": ME,
            "SSH_USER": getpass.getuser(),
            "SERVER_OPTIONS": "(-m 64)",
            **self.ports,
            **settings,
        }
        (self.folder / "config.sh").write_text("".join(f"{name}={value}\n" for name, value in chosen.items()))

    def start(self, *words: str, **variables: str) -> "subprocess.Popen[str]":
        """Start the script in a process group of its own, as a terminal does."""
        path = f"{self._bin}:{PROGRAMS}:{os.environ['PATH']}"
        return subprocess.Popen(
            ["bash", str(SCRIPT), "--config", str(self.folder / "config.sh"), *words],
            env=self.account.variables() | {"HOME": str(self.folder), "PATH": path} | variables,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True, cwd=self.folder,
        )  # fmt: skip

    def run(self, *words: str, status: int = 0, **variables: str) -> str:
        """Run the script to its end, which has this status; return what it says."""
        ended_with, said = self.attempt(*words, **variables)
        assert ended_with == status, said
        return said

    def attempt(self, *words: str, **variables: str) -> tuple[int, str]:
        """Run the script to its end; return its status and what it says."""
        with self.start(*words, **variables) as process:
            try:
                said = process.communicate(timeout=SECONDS)[0]
            except BaseException:
                os.killpg(process.pid, signal.SIGKILL)
                raise
        return process.returncode, said

    def keep_image(self, name: str) -> None:
        """Let docker on the user's machine have an image."""
        images = self.docker_state / "images"
        images.mkdir(parents=True, exist_ok=True)
        (images / name).touch()

    def runs(self) -> list[Path]:
        """The folders of the load tests' results, in order."""
        return sorted((self.folder / "results" / self.name).iterdir())

    def create(self) -> str:
        return self.run("create", "--yes")

    def boot(self, role: str, has_docker: bool = True) -> Instance:
        """Start what an instance of the account does: sshd, with the key pair's key."""
        made = self.account.instance(role)
        [key] = [key["PublicKey"] for key in self.account.key_pairs() if key["KeyName"] == made["KeyName"]]
        address, port = made["PublicIpAddress"], int(self.ports["SSH_PORT"])
        instance = Instance(self.folder / role, address, port, key, has_docker)
        return self._running.enter_context(instance)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running.close()
