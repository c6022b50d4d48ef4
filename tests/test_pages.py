"""The examples of README and docs do what their pages say, and what no test can run is listed with the reason."""

import os
import re
import shutil
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from memcache_kv.journal import Journal
from tests.journal.tools.journals import sets, write_journal
from tests.pages import WRITTEN, Block, Page, PageFault, blocks_of
from tests.program import run_to_its_end

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
RUN = {"sh", "sh server", "python"}
"""Kinds of blocks that are run."""
NEEDED = {
    "tls.md": "openssl",
    "backup.md": "rsync",
    "http.md": "curl",
    "admin.md": "curl",
    "monitoring.md": "curl",
    "migrate_from_memcached.md": "memcached",
    "switch_from_memcached.md": "memcached",
}
"""Programs that a page's reader has, and a machine that runs the tests perhaps not."""
LONG = {"test_frameworks.md": ("celery", "django", "flask_caching", "pylibmc")}
"""Pages whose examples take long, and the packages that they need."""

UNTESTED = {
    "README.md: python3 -m venv .venv && .venv/bin/pip install -q -e '.[dev]' && .venv/bin/python -m pytest -n 4":
        "it runs all tests; `.ci/run` and `make test-sdist` take this very line from the README",
    "README.md: def test_the_cart_expires(memcached):": "test_with_pytest.md runs such tests",
    "README.md: memcache-kv journal restore DIR --until TIME --yes":
        "the moment is the reader's; journal_tools.md runs it on a journal with a known one",
    "CONTRIBUTING.md: make test": "it runs all tests",
    "CONTRIBUTING.md: python3.14t -m venv .venv && .venv/bin/pip install -e '.[tests]' && .venv/bin/pytest -n 4":
        "it runs all tests, with an interpreter that few have; ci.yml does so",
    "CONTRIBUTING.md: sudo apt-get install memcached strace libmemcached-tools libsasl2-modules faketime "
    "netcat-openbsd rsync nginx nutcracker systemd prometheus openssh-server":
        "it needs root",
    "CONTRIBUTING.md: .venv/bin/python clients/shell.py": "it waits for lines on a terminal; tests/clients run it",
    "mend_a_journal.md: memcache-kv journal stats ./data | grep flush_all":
        "the moment is the reader's; journal_tools.md runs these commands on a journal with a known one",
    "tls.md: memcache-kv -Z -o ssl_chain_cert=cert.pem,ssl_key=key.pem,ssl_ca_cert=clients.pem \\":
        "10.0.0.5 is not an address of this machine; tests/integration/test_tls.py has such listeners",
    "http.md: 2024-10-07 14:07:10 - PUT - Key: key_1, Value: value_1": "tests/protocol/http write these lines",
    "behind_a_proxy.md: defaults": "HAProxy",
    "behind_a_proxy.md: stream {": "nginx",
    "several_nodes.md: docker compose -f deploy/cluster/compose.yaml up --build":
        "tests/deploy/test_compose.py looks at the file, and other tests there start what it starts",
    "several_nodes.md: import sys": "tests/deploy/test_hashing_clients.py takes the client's options from the page",
    "several_nodes.md: client = HashClient(nodes, retry_attempts=0, dead_timeout=60, ignore_exc=True, "
    "default_noreply=False)":
        "the same",
    "several_nodes.md: store:": "a part of a file that tests/deploy/test_twemproxy.py uses",
    'several_nodes.md: local nodes = { "node1:11211", "node2:11211", "node3:11211" }':
        "a part of a file that tests/deploy/test_memcached_proxy.py uses",
    "several_nodes.md: local function stand_in(pool)": "the same",
    "several_nodes.md: local function read()": "the same",
    "several_nodes.md: memcached -p 11411 -o proxy_config=routelib,proxy_arg=deploy/cluster/failover.lua":
        "tests/deploy/test_memcached_proxy.py runs it where there is such a memcached",
    "several_nodes.md: {": "mcrouter, which the page says is not tested",
    "several_nodes.md: upstream by_key {": "a part of a file that tests/deploy/test_nginx.py uses",
    "several_nodes.md: python -m clients.cluster_bench --output found.json":
        "tests/clients/test_cluster_bench.py runs it, shorter",
    "docker.md: docker build -t memcache_kv . && docker run -p 11211:11211 memcache_kv -m 512":
        "ci.yml builds and runs the image",
    "docker.md: docker run -p 11211:11211 memcache_kv -m 512": "tests/test_container.py runs what the image runs",
    "docker.md: docker run --rm -v kv:/data memcache_kv journal verify /data": "the same",
    "docker.md: docker run -p 11211:11211 -v kv:/data memcache_kv -m 512 --fsync always": "the same",
    "docker.md: docker run -p 11211:11211 -v ./users:/etc/memcache-kv/users:ro memcache_kv -S -Y "
    "/etc/memcache-kv/users":
        "tests/test_dockerfile.py has such a server",
    "docker.md: GRAFANA_PASSWORD=choose-one docker compose -f deploy/compose/compose.yaml up --build --wait":
        "tests/deploy/test_single_node.py looks at the file, and starts the node as it says",
    "sizing.md: memcache-kv --memory-plan -m 1024 --journal ./data": "tests of the memory plan run it",
    "kubernetes.md: docker build -t registry.example/memcache_kv:0.1.0 . && docker push "
    "registry.example/memcache_kv:0.1.0":
        "ci.yml builds the image; the registry is the reader's",
    "kubernetes.md: kubectl apply -k deploy/kubernetes/overlays/durable": "cd.yml does that in a cluster",
    "kubernetes.md: apiVersion: kustomize.config.k8s.io/v1beta1": "tests/deploy/test_kubernetes.py builds it",
    "kubernetes.md: helm install cache deploy/helm/memcache-kv --set "
    "image.repository=registry.example/memcache_kv --set persistence.enabled=true":
        "tests/deploy/test_kubernetes.py renders it, and cd.yml installs it in a cluster",
    "kubernetes.md: deploy/kubernetes/smoke_test.sh -n shop --restart": "tests/deploy/test_smoke_test.py runs it",
    "security.md: MEMCACHED=/path/to/memcached python -m benchmarks.attacks --markdown attacks.md": "25 minutes",
    "suites.md: .venv/bin/python -m pytest -n 4 -m long tests/suites": "the long tests have it",
    "suites.md: SUITES=all .venv/bin/python -m tests.suites /usr/bin/memcached /opt/memcached-1.6.45/memcached":
        "it takes minutes, and writes the page",
    "monitoring.md: promtool check config prometheus.yml && promtool test rules memcache-kv.rules.test.yml":
        "tests/deploy/test_monitoring.py runs it in deploy/prometheus",
    "logs.md: memcache-kv --log-file /var/log/memcache-kv.log -v": "needs a directory of the system",
    "where_the_time_goes.md: MEMCACHED=/path/to/memcached python -m benchmarks.profile --only get90,pipe32":
        "tests/benchmarks profile a server",
    "load_test.md: .venv/bin/pip install '.[load]' && .venv/bin/memcache-kv --line-listen 7171":
        "for the examples behind it; tests/integration/test_load_test.py has such servers",
    "load_test.md: .venv/bin/python -m clients.load_test --duration 10 --output result.json --html result.html":
        "whether the targets are met depends on the machine; tests/integration/test_load_test.py runs it",
    "load_test.md: .venv/bin/python -m clients.load_test --rate 20000 --duration 30": "the same",
    "load_test.md: .venv/bin/python -m clients.load_test --users 1,10,100": "it takes a minute; the same file runs it",
    "locust.md: ulimit -n 20000 && memcache-kv -c 12000 --line-listen 7171": "for the example behind it",
    "locust.md: pip install '.[locust]' && ulimit -n 20000 && locust -f clients/locustfile.py --headless "
    "--users 10000 --spawn-rate 100 --run-time 30m --processes 2 --wait 20 --csv found --html found.html":
        "it takes half an hour; tests/integration/test_load_test.py runs Locust for seconds",
    "systemd.md: python3 -m venv /opt/memcache_kv && /opt/memcache_kv/bin/pip install '.[auth,http]'":
        "it changes the system; tests/deploy/test_systemd_units.py installs the units in a copy of it",
    "systemd.md: systemctl edit memcache-kv.socket": "it opens an editor",
    "upgrades.md: /opt/memcache_kv/bin/pip install --upgrade '.[auth,http]'":
        "the same; test_systemd_units.py restarts the service under load",
    "aws.md: cp deploy/aws/config.sh.example deploy/aws/config.sh":
        "it needs an account of AWS; tests/deploy/aws runs these commands against a server that plays one",
    "aws.md: deploy/aws/aws.sh test --duration 60 --processes 2": "the same",
    "aws.md: deploy/aws/aws.sh test --rate 12000 --duration 60": "the same",
    "test_with_pytest.md: pytest --memcached-exec=/usr/bin/memcached": "tests/testing/test_plugin.py has such runs",
    "test_with_pytest.md: from memcache_kv.testing import factories": "the same",
    "test_a_client.md: def test_my_client(memcached):": "tests/testing/test_model.py has such tests",
    "test_a_client.md: def stalled(self):": "the same",
    "test_a_client.md: state = Wrong()": "it takes long; tests/testing/test_model.py has a report as short",
    'recordings.md: {"recording":1,"began":1795234900.5}': "tests/traffic/test_recording.py reads such lines",
    "performance.md: MEMCACHED=/path/to/memcached python -m benchmarks.all --output found": "it takes half an hour",
}  # fmt: skip
"""Blocks that are not run, by their page and first line, and why."""

INLINE_UNTESTED = {
    "docker build -t memcache_kv . && docker run -p 11211:11211 memcache_kv -m 512": "ci.yml builds and runs the image",
    ".venv/bin/pip install pymemcache": "the page's example fails without it",
    ".venv/bin/pip install pre-commit && .venv/bin/pre-commit install": "it changes the clone's hooks",
    "pip install '.[auth]'": "test_documents.py looks the extra up",
    "pip install": "no command to type",
    "printf 'version\\r\\nquit\\r\\n' | nc 127.0.0.1 11211": "logins.md and others run such lines",
    "systemctl reload": "tests/deploy/test_systemd_units.py does it with a systemd of its own",
    "systemctl start": "the same",
    "systemctl stop memcache-kv.service": "the same",
    "htpasswd -B": "it needs Apache's tools",
    "tail -f": "it never ends",
}
"""Commands within sentences that are not looked at, and why."""


def write_a_flushed_journal(page: Page) -> None:
    """Write the journal of journal_tools.md: 301 items, a flush_all a second later, and one item after it."""

    def flush_and_store(journal: Journal) -> None:
        journal.flushed(0)
        journal.stored(b"later", 0, 0, 0, b"value")

    write_journal(page.folder / "DIR", sets(*(f"key-{number}" for number in range(301))), flush_and_store)


def make_environment(page: Page) -> None:
    """Do what CONTRIBUTING's `make test` does before the tests."""
    page.shell("python3 -m venv .venv")


SCENES: dict[str, Callable[[Page], None]] = {
    "journal_tools.md": write_a_flushed_journal,
    "CONTRIBUTING.md": make_environment,
}
"""What a page's reader has before its first example."""


def name_of(path: Path, block: Block) -> str:
    """Name a block by its page and its first line."""
    return f"{path.name}: {block.text.splitlines()[0].partition('  # ')[0].strip()}"


def is_run(block: Block) -> bool:
    """Tell whether a block is run, or written into a file that is."""
    return block.kind in RUN or WRITTEN.fullmatch(block.kind) is not None


RUNNABLE = [
    pytest.param(path, id=path.stem, marks=[pytest.mark.long] if path.name in LONG else [])
    for path in PAGES
    if any(is_run(block) for block in blocks_of(path))
]


@pytest.mark.parametrize("path", RUNNABLE)
def test_the_examples_of_a_page_do_what_it_says(path: Path, tmp_path: Path) -> None:
    if path.name in NEEDED and shutil.which(NEEDED[path.name]) is None:
        pytest.skip(f"{NEEDED[path.name]} is not installed")
    if missing := [name for name in LONG.get(path.name, ()) if find_spec(name) is None]:
        assert not os.environ.get("CI"), f"{missing} are not installed"
        pytest.skip(f"{missing} are not installed")
    with Page(path, tmp_path) as page:
        if path.name in SCENES:
            SCENES[path.name](page)
        assert page.run() > 0


def test_what_is_not_run_is_listed_with_its_reason() -> None:
    skipped = [
        name_of(path, block)
        for path in PAGES
        for block in blocks_of(path)
        if not is_run(block) and block.kind not in {"", "toml", "ini"}
    ]
    assert sorted(skipped) == sorted(UNTESTED)


COMMAND = re.compile(
    r"(?:[A-Z_]+=\S+ )?(?:\.venv/bin/)?"
    r"(?:\$|sudo|memcache-kv|python3?|pip|pytest|docker|make|printf|nc|htpasswd|tail|apt-get|systemctl) \S"
)
"""How a command begins."""


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_no_command_hides_in_a_block_of_output(path: Path) -> None:
    lines = [line for block in blocks_of(path) if not block.kind for line in block.text.splitlines()]
    assert [line for line in lines if COMMAND.match(line)] == []


def inline_commands() -> list[str]:
    blocks = [block for path in PAGES for block in MarkdownIt("commonmark").enable("table").parse(path.read_text())]
    spans = {token.content for block in blocks for token in block.children or () if token.type == "code_inline"}
    return sorted(span for span in spans if COMMAND.match(span))


@cache
def help_of(*words: str) -> str:
    """What the program prints about itself, or about one of its commands."""
    done = run_to_its_end(*words, "--help")
    assert done.returncode == 0, done.stderr
    return done.stdout


def fault_of(command: str) -> str:
    """What is wrong with a command within a sentence: a program, target, module or flag that does not exist."""
    words = re.sub(r"^(?:[A-Z_]+=\S+ )?(?:\.venv/bin/)?", "", command).split(" ")
    match words:
        case ["make", target]:
            known = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
            return "" if target in known else f"no target {target}"
        case ["python", "-m", "memcache_kv", *rest]:
            return fault_of(" ".join(["memcache-kv", *rest]))
        case ["python", "-m", module, *rest]:
            paths = [word for word in rest if "/" in word and not (ROOT / word).exists()]
            return f"no {paths}" if paths else "" if find_spec(module) else f"no module {module}"
        case ["python", script]:
            return "" if (ROOT / script).exists() else f"no file {script}"
        case ["memcache-kv", "journal", "…" | "COMMAND", *_]:
            return ""
        case ["memcache-kv", *rest]:
            commands = [word for word in rest if re.fullmatch("[a-z]+", word)][:2]
            flags = [word for word in rest if word.startswith("-")]
            text = help_of(*commands)
            return "".join(f"no flag {flag}" for flag in flags if not re.search(rf"{flag}\b", text))
    return "not known how to look at it"


@pytest.mark.parametrize("command", [each for each in inline_commands() if each not in INLINE_UNTESTED])
def test_a_command_within_a_sentence_exists(command: str) -> None:
    assert fault_of(command) == ""


def test_the_commands_that_are_not_looked_at_are_there() -> None:
    assert INLINE_UNTESTED.keys() <= set(inline_commands())


@pytest.mark.parametrize(
    "command",
    [
        "make tests", "python -m benchmarks.none", "python clients/none.py", "memcache-kv --no-such-flag",
        "memcache-kv journal verify DIR --no-such-flag", "python -m memcache_kv --nonsense", "docker ps",
        "MEMCACHED=x make tset", "python -m pytest tests/none",
    ],
)  # fmt: skip
def test_a_command_that_does_not_exist_is_found(command: str) -> None:
    assert COMMAND.match(command)
    assert fault_of(command) != ""


@pytest.mark.parametrize(
    ("example", "fault"),
    [
        ("```sh\necho one\n```\n```\none\n```\n", None),
        ("```sh\necho one 17 two\n```\n\nIt prints:\n\n```\none … two\n```\n", None),
        ("```python\nprint(1)\n```\n```\n1\n```\n", None),
        ("```sh untested\nfalse\n```\n```\nanything\n```\n", None),
        (
            "```sh\npython3 -m venv .venv && .venv/bin/pip install '.[auth]' pytest && .venv/bin/python -c 1\n```\n",
            None,
        ),
        ("```sh\nfalse\n```\n", "ended with status 1"),
        ("```sh\nfalse | true\n```\n", "ended with status 1"),
        ("```sh\npip install no_such_package\n```\n", "ended with status 1"),
        ("```sh\npip install '.[nonsense]'\n```\n", "ended with status 1"),
        ("```sh\necho one\n```\n```\ntwo\n```\n", "the page says"),
        ("```python\nprint(1)\n```\n```\n2\n```\n", "the page says"),
        ("```sh server\nmemcache-kv -p nonsense\n```\n", "-p nonsense ended; it said"),
        ("```sh server\ntrue && memcache-kv -p nonsense\n```\n", "-p nonsense ended; it said"),
        ("```ruby\n```\n", "no such kind of block"),
    ],
)
def test_an_example_that_does_not_hold_is_found(example: str, fault: str | None, tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text(example)
    with Page(path, tmp_path) as page:
        if fault is None:
            page.run()
        else:
            with pytest.raises(PageFault, match=re.escape(fault)):
                page.run()
