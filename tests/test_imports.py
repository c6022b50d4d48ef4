"""The package's shape: imports go one way, names say one thing, and nothing grows too long."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

import memcache_kv
from memcache_kv.unpatched import PATCHED_BY_GEVENT

ROOT = Path(memcache_kv.__file__).parent
PACKAGE = "memcache_kv"
LONGEST_MODULE = 700
LONGEST_FUNCTION = 60


def name_of(path: Path) -> str:
    parts = [PACKAGE, *path.relative_to(ROOT).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


UNPATCHED = f"{PACKAGE}.unpatched"
"""The module from which others import those of the standard library that gevent and freezegun change."""

MODULES = {name_of(path): path for path in sorted(ROOT.rglob("*.py"))}
TREES = {module: ast.parse(path.read_text()) for module, path in MODULES.items()}

LAYERS = [
    {"errors", "version", "unpatched", "clock", "histogram", "threads", "streams", "compiled"},
    {"config"},
    {"store"},
    {"observe", "progress", "datafile"},
    {"journal"},
    {"journal.tools"},
    {"stats"},
    {"auth"},
    {"commands"},
    {"protocol"},
    {"server"},
    {"traffic"},
    {"cli", "api"},
    {"__main__", "__init__"},
    {"container", "testing"},
]
"""Each room may import those above it and those beside it, be it for types alone."""

HEIGHTS = {room: height for height, layer in enumerate(LAYERS) for room in layer}
NESTED = ["journal.tools"]
"""Rooms inside another one, with a height of their own."""
AT_THE_ROOT = {
    "__init__",
    "__main__",
    "cli",
    "container",
    "version",
    "errors",
    "clock",
    "histogram",
    "progress",
    "streams",
    "threads",
    "unpatched",
}
"""The only modules that may lie outside a folder."""


def room_of(module: str) -> str:
    """The folder that a module is in; a module at the root is a room of its own."""
    inside = module.removeprefix(PACKAGE).lstrip(".")
    nested = next((room for room in NESTED if is_in(inside, room)), None)
    return nested or inside.partition(".")[0] or "__init__"


def is_in(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def imports_in(tree: ast.AST) -> Iterator[str]:
    """The modules that are imported, those inside functions and those for types alone too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module is not None
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in MODULES else node.module
                if node.module == UNPATCHED:
                    yield alias.name


IMPORTS = {module: set(imports_in(tree)) for module, tree in TREES.items()}

by_module = pytest.mark.parametrize("module", MODULES)


# Imports


def test_imports_for_types_alone_and_inside_functions_count() -> None:
    code = "if TYPE_CHECKING:\n    from memcache_kv.store import entry\ndef f():\n    import memcache_kv.cli"
    assert set(imports_in(ast.parse(code))) == {"memcache_kv.store.entry", "memcache_kv.cli"}


def test_every_room_has_its_place() -> None:
    assert {room_of(module) for module in MODULES} <= HEIGHTS.keys()
    assert {path.stem for path in ROOT.glob("*.py")} <= AT_THE_ROOT


@by_module
def test_imports_go_one_way(module: str) -> None:
    height = HEIGHTS[room_of(module)]
    for imported in IMPORTS[module]:
        if is_in(imported, PACKAGE) and imported != PACKAGE:
            assert HEIGHTS[room_of(imported)] <= height, f"{module} imports {imported}"


def test_no_modules_import_one_another_in_a_circle() -> None:
    rest = {module: IMPORTS[module] & MODULES.keys() - {module} for module in MODULES}
    while free := {module for module, needs in rest.items() if not needs & rest.keys()}:
        for module in free:
            del rest[module]
    assert not rest, "circles, and what imports them"


@by_module
def test_what_other_libraries_patch_is_imported_unpatched(module: str) -> None:
    patched = {*PATCHED_BY_GEVENT, "time"}
    nodes = [node for node in ast.walk(TREES[module]) if isinstance(node, ast.Import | ast.ImportFrom)]
    direct = [node for node in nodes if isinstance(node, ast.Import) or node.module != UNPATCHED]
    found = {name for node in direct for name in imports_in(node)} & patched
    assert not found or module == UNPATCHED, f"import {found} from {UNPATCHED}"


NETWORK = {"socket", "select", "selectors", "socketserver"}
FORBIDDEN = {
    "store": {*NETWORK, "msgspec", "json", "pathlib"},
    "journal": NETWORK - {"socket"},
    "commands": {*NETWORK, "memcache_kv.journal", "memcache_kv.auth", "memcache_kv.stats.report"},
    "protocol": NETWORK,
    "protocol.text": {"memcache_kv.protocol.binary"},
    "protocol.meta": {"memcache_kv.protocol.binary", "memcache_kv.protocol.text"},
    "protocol.binary": {"memcache_kv.protocol.meta", "memcache_kv.protocol.text"},
    "protocol.line": {"memcache_kv.protocol.binary", "memcache_kv.protocol.meta", "memcache_kv.protocol.text"},
    "protocol.http": {
        "memcache_kv.protocol.binary",
        "memcache_kv.protocol.line",
        "memcache_kv.protocol.meta",
        "memcache_kv.protocol.text",
    },
    "protocol.http.framing": {
        "memcache_kv.protocol.http.routes",
        "memcache_kv.protocol.http.items",
        "memcache_kv.protocol.http.json_values",
    },
    "server.connection": {"socketserver", "memcache_kv.server.worker"},
    "server.worker": {"socketserver", "memcache_kv.server.listener", "memcache_kv.server.run"},
}
"""What some rooms and modules must not import, besides the rooms below them."""


@pytest.mark.parametrize("place", FORBIDDEN)
def test_rooms_know_nothing_of_what_is_not_theirs(place: str) -> None:
    inside = [module for module in MODULES if is_in(module, f"{PACKAGE}.{place}")]
    assert inside
    for module in inside:
        found = [name for name in IMPORTS[module] for wrong in FORBIDDEN[place] if is_in(name, wrong)]
        assert not found, f"{module} imports {found}"


def test_of_the_journal_only_what_reads_a_running_memcached_uses_sockets() -> None:
    using = [module for module, names in IMPORTS.items() if "socket" in names and room_of(module).startswith("journal")]
    assert using == ["memcache_kv.journal.tools.memcached_source"]


# Names


def is_alias(node: ast.stmt) -> bool:
    """Tell whether a statement gives a type a name: `Handler = Callable[…]`."""
    if isinstance(node, ast.AnnAssign):
        return ast.unparse(node.annotation) == "TypeAlias"
    names = defined_by(node)
    return isinstance(node, ast.Assign) and bool(names) and names[0][0].isupper() and not names[0].isupper()


def defined_by(node: ast.stmt) -> list[str]:
    """The names that an assignment defines."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


def test_no_two_classes_or_type_aliases_share_a_name() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for module, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(module)
        for statement in tree.body:
            if is_alias(statement):
                places[defined_by(statement)[0]].append(module)
    assert {"Session", "Handler", "Progress", "Finder"} <= places.keys()
    assert not {name: modules for name, modules in places.items() if len(modules) > 1}


def constants() -> Iterator[tuple[str, str]]:
    """Every constant that a module defines, and the module."""
    for module, tree in TREES.items():
        if module != f"{PACKAGE}.__main__":
            for statement in tree.body:
                yield from ((name, module) for name in defined_by(statement) if name.isupper())


def test_every_constant_stands_for_one_thing() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for name, module in constants():
        places[name].append(module)
    assert {"KEY_LIMIT_BYTES", "MIB", "DEFAULT_PORT", "READ_BYTES"} <= places.keys()
    assert {name for name, modules in places.items() if len(modules) > 1} == set()


# Tests and private names

TESTS = Path(__file__).parent
TUPLE_METHODS = {"_replace", "_asdict", "_fields", "_make"}
"""The public methods of named tuples."""
LOOKS_AT_PRIVATE_NAMES = {
    "integration/test_client_pymemcache.py",
}
"""Tests that look at a private name all the same: pymemcache has no other way to send a command of one's own."""


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in TUPLE_METHODS


def own_names(tree: ast.AST) -> set[str]:
    """The functions, classes, variables and attributes that a module defines."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and is_self(node.value):
            names.add(node.attr)
    return names


def is_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in ("self", "cls")


def private_names_in(tree: ast.AST) -> set[str]:
    """The private names of other modules that a test uses, imports, or patches by their paths."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.ImportFrom):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("setattr", "getattr", "patch")):
            texts = [one.value for one in node.args[:2] if isinstance(one, ast.Constant) and isinstance(one.value, str)]
            found |= {text.rpartition(".")[2] for text in texts}
    return {name for name in found if is_private(name)} - own_names(tree)


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("store._shard(key)", {"_shard"}),
        ("class Early(Journal):\n    def sync(self): self._unsynced.clear()", {"_unsynced"}),
        ("from memcache_kv.store.store import _shard", {"_shard"}),
        ("monkeypatch.setattr('memcache_kv.journal.tools.repair._manifest', fail)", {"_manifest"}),
        ("monkeypatch.setattr(store, '_shard', fail)", {"_shard"}),
        ("class Own:\n    def __init__(self): self._a = 1\n    def _b(self): return self._a\nOwn()._b()", set()),
        ("old._replace(key=b'a')", set()),
    ],
)
def test_private_names_of_other_modules_are_found(code: str, names: set[str]) -> None:
    assert private_names_in(ast.parse(code)) == names


def test_tests_use_public_names() -> None:
    paths = {str(path.relative_to(TESTS)): path for path in TESTS.rglob("*.py")}
    found = {name for name, path in paths.items() if private_names_in(ast.parse(path.read_text()))}
    assert found == LOOKS_AT_PRIVATE_NAMES


# Sizes and docstrings


@by_module
def test_modules_are_short_and_say_what_they_are(module: str) -> None:
    assert len(MODULES[module].read_text().splitlines()) <= LONGEST_MODULE
    assert ast.get_docstring(TREES[module])


@by_module
def test_functions_are_short(module: str) -> None:
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < LONGEST_FUNCTION, node.name


def is_setter(node: ast.FunctionDef) -> bool:
    """Tell whether it sets a property: the docstring is at what gets it."""
    return any(ast.unparse(decorator).endswith(".setter") for decorator in node.decorator_list)


def public_definitions(body: list[ast.stmt]) -> Iterator[ast.FunctionDef | ast.ClassDef]:
    """The functions, classes and methods of a module whose names are public."""
    for node in body:
        if isinstance(node, ast.ClassDef):
            if not node.name.startswith("_"):
                yield node
            yield from public_definitions(node.body)
        elif isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and not is_setter(node):
            yield node


@by_module
def test_public_functions_and_classes_have_docstrings(module: str) -> None:
    assert not [node.name for node in public_definitions(TREES[module].body) if not ast.get_docstring(node)]
