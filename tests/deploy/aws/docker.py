"""A stand-in for docker: it records how it is called, and a container is a server of this very package.

DOCKER_STATE is its folder: `calls` has a line of JSON for each call, `images` a file for each image, `containers` a
process id and a log for each container, and `volume` is what the containers have at /data.
"""

import gzip
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

STATE = Path(os.environ["DOCKER_STATE"])
IMAGES, CONTAINERS, VOLUME = STATE / "images", STATE / "containers", STATE / "volume"
PROGRAM = [sys.executable, "-m", "memcache_kv"]
WITH_VALUE = {"--network", "--restart", "--ulimit", "--log-opt", "-v"}
STOP_SECONDS = 30.0


def image_file(name: str) -> Path:
    return IMAGES / name.replace("/", "%")


def keep_image(name: str, content: bytes) -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    image_file(name).write_bytes(content)


def pid_of(name: str) -> int | None:
    """The process of a container, if it runs."""
    try:
        pid = int((CONTAINERS / name / "pid").read_text())
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return None
    return None if state == "Z" else pid


def run_container(name: str, words: list[str]) -> int:
    """Start a container: docker's options, the image, and the server's flags."""
    while words[0].startswith("-"):
        assert words[0] in WITH_VALUE, words[0]
        words = words[2:]
    image, *flags = words
    if not image_file(image).exists():
        return complain(f"Unable to find image '{image}' locally")
    folder = CONTAINERS / name
    folder.mkdir(parents=True)
    VOLUME.mkdir(exist_ok=True)
    flags = [str(VOLUME) if flag == "/data" else flag for flag in flags]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*PROGRAM, *flags], env=os.environ | {"MEMCACHE_KV_LISTEN": "0.0.0.0"}, stdin=subprocess.DEVNULL,
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    (folder / "pid").write_text(str(process.pid))
    print(f"{process.pid:064x}")
    return 0


def stop_container(name: str) -> int:
    """Ask a container to end, and wait for that."""
    pid = pid_of(name)
    if pid is not None:
        os.kill(pid, signal.SIGTERM)
    give_up_at = time.monotonic() + STOP_SECONDS
    while pid_of(name) is not None and time.monotonic() < give_up_at:
        time.sleep(0.01)
    return 0


def remove_container(name: str) -> int:
    if pid_of(name) is not None:
        return complain(f"container {name} is running")
    folder = CONTAINERS / name
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    return 0


def build_image(name: str, context: bytes) -> int:
    """Keep the context's Dockerfile and the names of its files as the image."""
    with tarfile.open(fileobj=io.BytesIO(context)) as files:
        dockerfile = files.extractfile("Dockerfile")
        assert dockerfile is not None
        listing = {"files": files.getnames(), "dockerfile": dockerfile.read().decode()}
    keep_image(name, json.dumps(listing).encode())
    return 0


def complain(text: str) -> int:
    print(f"Error: {text}", file=sys.stderr)
    return 1


def main(words: list[str]) -> int:
    """Do what a few of docker's commands do."""
    STATE.mkdir(parents=True, exist_ok=True)
    with (STATE / "calls").open("a") as calls:
        calls.write(json.dumps(words) + "\n")
    match words:
        case ["info"]:
            return 0
        case ["image", "inspect", name]:
            return 0 if image_file(name).exists() else complain(f"No such image: {name}")
        case ["save", name]:
            sys.stdout.buffer.write(name.encode())
            return 0
        case ["load"]:
            name = gzip.decompress(sys.stdin.buffer.read()).decode()
            keep_image(name, b"loaded")
            print(f"Loaded image: {name}")
            return 0
        case ["pull", name]:
            keep_image(name, b"pulled")
            return 0
        case ["build", "--quiet", "-t", name, "-"]:
            return build_image(name, sys.stdin.buffer.read())
        case ["run", "--rm", name, *flags]:
            return subprocess.run([*PROGRAM, *flags], check=False).returncode if image_file(name).exists() else 125
        case ["run", "-d", "--name", name, *rest]:
            return run_container(name, rest)
        case ["inspect", *format_words, name]:
            if not (CONTAINERS / name).exists():
                return complain(f"No such object: {name}")
            print(("exited" if pid_of(name) is None else "running") if format_words else "[]")
            return 0
        case ["exec", name, "memcache-kv", *flags]:
            if pid_of(name) is None:
                return complain(f"container {name} is not running")
            return subprocess.run([*PROGRAM, *flags], check=False).returncode
        case ["logs", "--tail", _, name]:
            sys.stdout.write((CONTAINERS / name / "log").read_text())
            return 0
        case ["stop", "-t", _, name]:
            return stop_container(name)
        case ["rm", name]:
            return remove_container(name)
    return complain(f"this stand-in does not know {words}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
