"""A container of the manifests as a process here."""

import http.client
import re
from pathlib import Path

from tests.deploy.manifests import Manifests
from tests.ports import free_port
from tests.program import Image, poll_until


class Pod:
    """The container of some manifests as a process here: other ports and paths, and nothing else is different."""

    def __init__(self, manifests: Manifests, folder: Path) -> None:
        self.container = manifests.container
        mounts = self.container.get("volumeMounts", [])
        self._mounts = {mount["mountPath"]: str(folder / mount["name"]) for mount in mounts}
        self.ports = {port["name"]: free_port() for port in self.container["ports"]}
        self._given = {port["name"]: port["containerPort"] for port in self.container["ports"]}
        for mount in mounts:
            place = Path(self._mounts[mount["mountPath"]])
            place.mkdir()
            for name, text in (manifests.files_of(mount) or {}).items():
                # The names can't be resolved here, so each gets an address.
                (place / name).write_text(re.sub(r"^(\S+?-(\d)[\w.]*):", r"\1|10.0.0.\2:", text, flags=re.MULTILINE))

    def start(self) -> Image:
        """Start the container's process."""
        variables = {each["name"]: self._here(each["value"]) for each in self.container.get("env", [])}
        of_image = {"MEMCACHE_KV_LISTEN": f"127.0.0.1:{self.ports['memcached']}"}
        return Image(*map(self._here, self.container["args"]), **of_image, **variables)

    def _here(self, text: str) -> str:
        for name, port in self._given.items():
            text = text.replace(f"0.0.0.0:{port}", f"127.0.0.1:{self.ports[name]}")
        for there, here in self._mounts.items():
            text = re.sub(rf"(?<=[=]){re.escape(there)}|^{re.escape(there)}", here, text)
        return text

    def probe(self, kind: str) -> int:
        """Do what the kubelet does for a probe; return the status, 0 without an answer."""
        get = self.container[f"{kind}Probe"]["httpGet"]
        connection = http.client.HTTPConnection("127.0.0.1", self.ports[get["port"]], timeout=30)
        try:
            connection.request("GET", get["path"])
            return connection.getresponse().status
        except OSError:
            return 0
        finally:
            connection.close()

    def poll_until_ready(self) -> None:
        """Wait until the readiness probe succeeds."""
        poll_until(lambda: self.probe("readiness") == 200, "the readiness probe succeeds")

    def poll_until_draining(self) -> None:
        """Wait until the readiness probe fails, as it does after a signal."""
        poll_until(lambda: self.probe("readiness") == 503, "the readiness probe fails while the node drains")
