"""An AWS account that moto's server plays, seen through the real AWS command line."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.closing import Closing
from tests.deploy.cluster import give_up
from tests.ports import free_port
from tests.program import PATIENCE_SECONDS, poll_until

REGION = "eu-central-1"
AMI_PARAMETER = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"
"""One that moto knows."""
NETWORK, SUBNET = "127.77.0.0/16", "127.77.0.0/24"
"""Private addresses of this machine too: the client reaches the server by them."""
PROGRAMS = Path(sys.executable).parent


class Account(Closing):
    """An account with a subnet for the instances. `empty` makes a new one of it."""

    def __init__(self, log: Path) -> None:
        self._aws = shutil.which("aws", path=str(PROGRAMS)) or give_up("awscli is not installed: extra `cloud`")
        if importlib.util.find_spec("moto") is None:
            give_up("moto is not installed: extra `cloud`")
        self.url = f"http://127.0.0.1:{free_port()}"
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("moto_on_loopback.py")), self.url.rpartition(":")[2]],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            )  # fmt: skip
        self.subnet = ""
        try:
            poll_until(self._answers, "moto answers")
        except BaseException:
            self.close()
            raise

    def _answers(self) -> bool:
        assert self._process.poll() is None, "moto ended"
        with suppress(OSError), urllib.request.urlopen(f"{self.url}/moto-api/data.json", timeout=10):
            return True
        return False

    def empty(self) -> None:
        """Forget everything, and make the subnet."""
        request = urllib.request.Request(f"{self.url}/moto-api/reset", method="POST")
        with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS):
            pass
        network = self.ask("ec2", "create-vpc", "--cidr-block", NETWORK)["Vpc"]["VpcId"]
        made = self.ask("ec2", "create-subnet", "--vpc-id", network, "--cidr-block", SUBNET)
        self.subnet = made["Subnet"]["SubnetId"]

    def variables(self) -> dict[str, str]:
        """The environment in which programs use this account: our variables, and none that lead elsewhere."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        return kept | {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ENDPOINT_URL_PRICING": f"http://127.0.0.1:{free_port()}",  # nobody listens there
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "/nonexistent",
            "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
        }

    def ask(self, *words: str) -> Any:
        """Call the AWS command line, and return what it answers."""
        done = subprocess.run(
            [self._aws, "--region", REGION, "--output", "json", *words],
            env=self.variables(), capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout.strip() else None

    def instances(self) -> list[dict[str, Any]]:
        """All instances that are not terminated, whoever made them."""
        reservations = self.ask("ec2", "describe-instances")["Reservations"]
        found = [instance for reservation in reservations for instance in reservation["Instances"]]
        return [instance for instance in found if instance["State"]["Name"] != "terminated"]

    def instance(self, role: str) -> dict[str, Any]:
        """The instance with a role."""
        [found] = [each for each in self.instances() if tags_of(each).get("memcache-kv-role") == role]
        return found

    def groups(self) -> list[dict[str, Any]]:
        """All security groups but those that every network has."""
        found: list[dict[str, Any]] = self.ask("ec2", "describe-security-groups")["SecurityGroups"]
        return [group for group in found if group["GroupName"] != "default"]

    def key_pairs(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.ask("ec2", "describe-key-pairs", "--include-public-key")["KeyPairs"]
        return found

    def volumes(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.ask("ec2", "describe-volumes")["Volumes"]
        return found

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def tags_of(thing: dict[str, Any]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in thing.get("Tags", ())}
