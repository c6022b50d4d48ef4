"""The reference of the public interface: what `memcache_kv` exports, by the docstrings."""

from __future__ import annotations

import ast
import enum
import inspect
import itertools
import re
from collections.abc import Iterator
from textwrap import dedent

import memcache_kv
from memcache_kv import Fsync, Items, Server, Settings, Store, Value
from memcache_kv.api.fields import ANY_PORT, OF_A_STORE, OF_THE_PROGRAM
from memcache_kv.config.options import SETTING_FIELDS
from tests.reference.tables import MADE, table

TOP = f"""\
# Public interface

{MADE}

What a program imports from `memcache_kv`. These names and their meaning stay as they are; everything else in the
package may change. [Embed the server in a program](../howto/embed.md) shows how they are used. All of it has type
annotations.

The package may be imported anywhere: it starts no thread, opens nothing, and reads no environment variables. A `Server`
and a `Store` do not read them either, unlike the program `memcache-kv`.
"""
NO_ARGUMENTS = {"port_given"}
"""Fields with which one part of the package tells another something."""
FOR_THE_PACKAGE = {"attach", "detach", "forget", "inner"}
"""Methods that other parts of the package call."""
SETTINGS_WORDS = """\
`Settings` is a named tuple. `Server` and `Store` take one, or its fields as keyword arguments, which they check: paths
may be texts, several values may be one text, and an enumeration its value. What a field means is in
[Settings](settings.md), by the flag. The last column says where the field can be an argument: what changes the process,
its streams or its user is for the program alone. A `Server` listens on 127.0.0.1, and on any free port, unless it is
told otherwise.
"""


def api_page() -> str:
    """Make the page."""
    return "\n".join(
        [
            TOP,
            *_class_section(Server),
            *_class_section(Store),
            *_class_section(Items),
            *_class_section(Value),
            "## Settings\n",
            SETTINGS_WORDS,
            table(["field", "flag", "default", "for"], _settings_rows()),
            "## Fsync\n",
            "When the journal is synced: "
            + ", ".join(f"`Fsync.{each.name}`, or `{str(each)!r}`" for each in Fsync)
            + ".\n",
            "## Exceptions\n",
            table(["exception", "is a", "meaning"], _exception_rows()),
        ]
    )


def _class_section(kind: type) -> Iterator[str]:
    yield f"## {kind.__name__}\n"
    bases = [base.__name__ for base in kind.__bases__ if base.__name__ in memcache_kv.__all__]
    if bases:
        yield f"Has all that `{bases[0]}` has.\n"
    yield f"`{_call(kind.__name__, kind)}`\n"
    yield _paragraphs(inspect.getdoc(kind))
    rows = [*_methods(kind), *_attributes(kind)]
    yield table(["name", "meaning"], rows)


def _methods(kind: type) -> Iterator[tuple[str, str]]:
    for name, member in vars(kind).items():
        if (name.startswith("_") and name not in ("__len__", "__contains__")) or name in FOR_THE_PACKAGE:
            continue
        if isinstance(member, property):
            annotation = inspect.signature(member.fget).return_annotation  # type: ignore[arg-type]
            yield f"`{name}`: `{annotation}`", _line(member.__doc__)
        elif inspect.isfunction(member):
            yield f"`{_call(name, member)}`", _line(member.__doc__)


def _call(name: str, method: object) -> str:
    """Return the name of a method with its parameters and what it returns."""
    words = re.sub("'([^']+)'", r"\1", str(inspect.signature(method)))  # type: ignore[arg-type]
    words = re.sub(r"^\(self(, /)?(, )?", "(", words).removesuffix(" -> None").replace("_T", "")
    return {"__len__": "len(store)", "__contains__": "key in store"}.get(name, f"{name}{words}")


def _attributes(kind: type) -> Iterator[tuple[str, str]]:
    """Yield the attributes that the class's own source documents: in its body, or where a method sets them."""
    tree = ast.parse(dedent(inspect.getsource(kind))).body[0]
    assert isinstance(tree, ast.ClassDef)
    for block in (tree.body, *(node.body for node in tree.body if isinstance(node, ast.FunctionDef))):
        for node, following in itertools.pairwise(block):
            name = _assigned_by(node)
            if name and isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
                yield f"`{name}`", _line(str(following.value.value))


def _assigned_by(node: ast.stmt) -> str:
    """Return the public name that a statement gives a value or a type; nothing for another statement."""
    if isinstance(node, ast.AnnAssign):
        name = ast.unparse(node.target)
    elif isinstance(node, ast.Assign):
        name = ast.unparse(node.targets[0])
    else:
        return ""
    name = name.removeprefix("self.")
    return name if name.isidentifier() and not name.startswith("_") else ""


def _settings_rows() -> Iterator[tuple[str, str, str, str]]:
    flags = {field: f"`--{flag}`" for flag, field in SETTING_FIELDS.items()}
    for name, default in Settings()._asdict().items():
        if name in NO_ARGUMENTS:
            continue
        shown = ANY_PORT.get(name, default)
        where = "the program" if name in OF_THE_PROGRAM else "`Server`, `Store`" if name in OF_A_STORE else "`Server`"
        yield (
            f"`{name}`",
            flags.get(name, "`-o …`"),
            "its own settings" if hasattr(shown, "_asdict") else f"`{_value(shown)}`",
            where,
        )


def _value(value: object) -> str:
    return repr(value.value if isinstance(value, enum.Enum) else value)


def _exception_rows() -> Iterator[tuple[str, str, str]]:
    for name in memcache_kv.__all__:
        kind = getattr(memcache_kv, name)
        if isinstance(kind, type) and issubclass(kind, Exception):
            yield f"`{name}`", f"`{kind.__bases__[0].__name__}`", _line(kind.__doc__)


def _paragraphs(text: str | None) -> str:
    assert text is not None
    return text + "\n"


def _line(text: str | None) -> str:
    assert text is not None
    return " ".join(inspect.cleandoc(text).split())
