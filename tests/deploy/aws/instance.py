"""An instance, as far as SSH can see it: a real sshd with a home, packages and docker of its own."""

import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.closing import Closing
from tests.deploy.cluster import Running, program_of

STAND_IN = Path(__file__).with_name("docker.py")
TOOLS = (
    "bash", "cat", "cp", "env", "gzip", "id", "ls", "mkdir", "mv", "sh", "sleep", "tar", "tee", "true", "uname",
    "cc", "gcc", "ld", "as",
)  # fmt: skip
"""What of this machine the instance has; nothing else of it is on its PATH."""
SEPARATION = Path("/run/sshd")
"""A folder that sshd wants if root runs it; Debian's service makes it."""


def write_program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def write_docker(path: Path, state: Path) -> None:
    """Write a program that is the stand-in for docker."""
    write_program(path, f'#!/bin/sh\nDOCKER_STATE={state} exec {sys.executable} {STAND_IN} "$@"\n')


class Instance(Closing):
    """One instance with an address of this machine. has_docker: else docker has to be installed there."""

    def __init__(self, folder: Path, address: str, port: int, public_key: str, has_docker: bool = True) -> None:
        self.folder = folder
        self.home, self.docker_state = folder / "home", folder / "docker"
        self._address, self._port = address, port
        self._bin = folder / "bin"
        for path in (self.home, self._bin):
            path.mkdir(parents=True)
        (folder / "authorized_keys").write_text(public_key)
        self._install_programs(has_docker)
        self._running = self._start()

    def _install_programs(self, has_docker: bool) -> None:
        for tool in TOOLS:
            found = shutil.which(tool)
            if found is not None:
                (self._bin / tool).symlink_to(found)
        write_program(self._bin / "python3", f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        write_program(self._bin / "sudo", '#!/bin/sh\nexec env "$@"\n')
        for name in ("usermod", "cloud-init"):
            write_program(self._bin / name, f'#!/bin/sh\necho "{name} $*" >> {self.folder}/calls\n')
        write_docker(self.folder / "docker-program", self.docker_state)
        install = f'case "$*" in *docker.io*) mv {self.folder}/docker-program {self._bin}/docker;; esac'
        write_program(self._bin / "apt-get", f'#!/bin/sh\necho "apt-get $*" >> {self.folder}/calls\n{install}\n')
        if has_docker:
            (self.folder / "docker-program").rename(self._bin / "docker")

    def _start(self) -> Running:
        """Start sshd, with a login that leads into this folder."""
        kept = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "MEMCACHE_KV_PURE"))}
        variables = kept | {"HOME": str(self.home), "PATH": str(self._bin)}
        exports = "".join(f"export {name}='{value}'\n" for name, value in variables.items())
        write_program(
            self.folder / "login",
            f'#!/bin/bash\n{exports}cd\nexec bash ${{SSH_ORIGINAL_COMMAND:+-c "$SSH_ORIGINAL_COMMAND"}}\n',
        )
        keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / "host_key")]
        subprocess.run(keygen, check=True, timeout=60)
        (self.folder / "sshd_config").write_text(
            f"ListenAddress {self._address}\nPort {self._port}\nHostKey {self.folder}/host_key\nPidFile none\n"
            f"AuthorizedKeysFile {self.folder}/authorized_keys\nStrictModes no\nUsePAM no\nPermitRootLogin yes\n"
            f"PasswordAuthentication no\nKbdInteractiveAuthentication no\nForceCommand {self.folder}/login\n"
        )
        if os.geteuid() == 0:
            SEPARATION.mkdir(mode=0o755, exist_ok=True)
        sshd = program_of("openssh-server", "sshd")
        log = self.folder / "sshd.log"
        running = Running([sshd, "-D", "-e", "-f", str(self.folder / "sshd_config")], log)
        running.wait_until(lambda: "Server listening" in log.read_text(), "sshd listens")
        return running

    @property
    def calls(self) -> list[str]:
        """The package and user programs that were called."""
        path = self.folder / "calls"
        return path.read_text().splitlines() if path.exists() else []

    @property
    def docker_calls(self) -> list[list[str]]:
        """How docker was called."""
        path = self.docker_state / "calls"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def image(self, name: str) -> Any:
        """What the stand-in keeps of an image that it built."""
        return json.loads((self.docker_state / "images" / name).read_text())

    def close(self) -> None:
        """End sshd and the containers."""
        self._running.end()
        for path in self.docker_state.glob("containers/*/pid"):
            with suppress(ProcessLookupError):
                os.kill(int(path.read_text()), signal.SIGKILL)
