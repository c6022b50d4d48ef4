"""The package's shape: imports go one way, and nothing grows too long."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import memcache_kv

ROOT = Path(memcache_kv.__file__).parent
PACKAGE = "memcache_kv"
LONGEST_MODULE = 700
LONGEST_FUNCTION = 60


def name_of(path: Path) -> str:
    parts = [PACKAGE, *path.relative_to(ROOT).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(ROOT.rglob("*.py"))}

LAYERS = [
    {
        "version",
        "license",
        "errors",
        "clock",
        "threads",
        "settings",
        "extended",
        "suboptions",
        "stats",
        "log",
        "prefixes",
    },
    {"store"},
    {"journal"},
    {"watching", "observation", "allocator", "memory", "progress", "memcached_source"},
    {"protocol"},
    {"poller"},
    {"tls"},
    {"connection"},
    {"worker"},
    {"server"},
    {"udp"},
    {"process", "machine", "daemon"},
    {"journaling"},
    {"service"},
    {"journal_cli", "journal_report", "health"},
    {"cli"},
    {"__main__"},
]
"""Each room may import those above it, and those beside it."""

ROOMS = {room: height for height, layer in enumerate(LAYERS) for room in layer}


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else "version"


def is_for_types_alone(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def imports_in(node: ast.AST) -> Iterator[str]:
    """The modules that are imported when the code runs, those inside functions too."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt) and is_for_types_alone(child):
            continue
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, "imports are absolute"
            assert child.module is not None
            for alias in child.names:
                full = f"{child.module}.{alias.name}"
                yield full if full in MODULES else child.module
        yield from imports_in(child)


def imports_of(module: str) -> set[str]:
    return set(imports_in(ast.parse(MODULES[module].read_text())))


by_module = pytest.mark.parametrize("module", MODULES)


def test_every_room_has_its_place() -> None:
    assert {room_of(module) for module in MODULES} - {"version"} == ROOMS.keys() - {"version"}


@by_module
def test_imports_go_one_way(module: str) -> None:
    height = ROOMS[room_of(module)]
    for imported in imports_of(module):
        if imported.split(".")[0] == PACKAGE and imported != PACKAGE:
            assert ROOMS[room_of(imported)] <= height, f"{module} imports {imported}"


FORBIDDEN = {
    "store": {"socket", "select", "selectors", "socketserver", "msgspec", "json", "pathlib", "memcache_kv.observe.log"},
    "journal": {"socket", "select", "selectors", "socketserver", "memcache_kv.protocol"},
    "protocol": {
        "socket",
        "select",
        "selectors",
        "socketserver",
        "memcache_kv.server.worker",
        "memcache_kv.server.connection",
    },
    "connection": {"memcache_kv.server.worker", "socketserver"},
    "worker": {"socketserver", "memcache_kv.server.listener", "memcache_kv.server.server"},
}
"""What some rooms must not know of, whoever imports it for them."""


@pytest.mark.parametrize("room", FORBIDDEN)
def test_rooms_know_nothing_of_what_is_not_theirs(room: str) -> None:
    for module in MODULES:
        if room_of(module) == room:
            assert not imports_of(module) & FORBIDDEN[room], module


@by_module
def test_modules_are_short_and_say_what_they_are(module: str) -> None:
    text = MODULES[module].read_text()
    assert len(text.splitlines()) <= LONGEST_MODULE
    assert ast.get_docstring(ast.parse(text))


@by_module
def test_functions_are_short(module: str) -> None:
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < LONGEST_FUNCTION, node.name


def test_no_module_imports_itself_in_a_circle_when_it_is_loaded_first() -> None:
    graph = {module: {name for name in imports_of(module) if name in MODULES} for module in MODULES}
    leaves: set[str] = set()
    while free := {module for module, needs in graph.items() if needs <= leaves | {module}} - leaves:
        leaves |= free
    rest = set(graph) - leaves
    assert not {module for module in rest if not MODULES[module].name.startswith("__init__")}, rest
