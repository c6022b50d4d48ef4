"""Write the figures of a run into the documents: performance.md and durability.md in docs/explanation, and README.md.

python -m benchmarks.page [FOUND]: takes FOUND/benchmarks.json and the plots beside it, keeps them in
docs/explanation/figures, and writes the marked parts of both documents anew. A part of the benchmarks that the run
left out keeps the figures of an earlier one. Without FOUND it writes what is kept.

A marked part stands between `<!-- figures: NAME -->` and `<!-- end of figures -->`; NAME is "targets", "others",
"readme", "redis" (the README's rows of the part "durability") or a part of `benchmarks.all`.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.contenders import OURS
from benchmarks.durability_report import Section
from benchmarks.durability_servers import REDIS
from benchmarks.part_connections import OPEN
from benchmarks.parts import Target
from benchmarks.ways import COMPILED_WAY, PURE_WAY
from benchmarks.workloads import ROOT

FIGURES = ROOT / "docs" / "explanation" / "figures"
KEPT = FIGURES / "benchmarks.json"
EXPLANATION = ROOT / "docs" / "explanation"
DOCUMENTS = (EXPLANATION / "performance.md", EXPLANATION / "durability.md", ROOT / "README.md")
MARKED = re.compile(r"(?<=<!-- figures: )(\w+)( -->\n\n).*?(\n<!-- end of figures -->)", re.DOTALL)
README_ROWS = {
    "get90: throughput": "one request at a time, 10 % sets",
    "set50: throughput": "one request at a time, half sets",
    "mget50: throughput": "gets of 50 keys",
    "pipe32: throughput": "32 requests in flight, 10 % sets",
    "pipe32set: throughput": "32 requests in flight, half sets",
    "meta32: throughput": "meta commands, 32 in flight, 10 % sets",
    "big10k: throughput": "10 KB values",
    "binary90: throughput": "the binary protocol, 10 % sets",
    "get90 over TLS: throughput": "over TLS, one request at a time, 10 % sets",
    "get90: throughput beside memcached -t 4":
        "one request at a time, 10 % sets, compared with memcached's own default (`-t 4`)",
}  # fmt: skip
"""The rows of the README's table, by the name of the target."""
SMALL_ITEMS, START = "1,000,000 items of 36 + 35 bytes, TTL none: MB resident", "start: ms to the first answer"
SERVERS = (OURS, REDIS)
Parts = Mapping[str, Mapping[str, Any]]


def read_parts(path: Path = KEPT) -> dict[str, Any]:
    """Read the parts of a run."""
    parts: dict[str, Any] = json.loads(path.read_text())["parts"]
    return parts


def targets_of(parts: Parts) -> list[Target]:
    """List the targets of all parts."""
    fields = ("name", "found", "bound", "at_least", "way")
    return [Target(*(found[field] for field in fields)) for part in parts.values() for found in part["targets"]]


def ways_table(targets: Sequence[Target], names: Mapping[str, str], with_bounds: bool) -> str:
    """Lay out targets of several ways, a column each.

    names: what the rows are called, by the name of the target; others are left out.
    """
    ways = list(dict.fromkeys(target.way for target in targets if target.way))
    found = {(target.name, target.way): target for target in targets}
    kinds = [kind for kind in (COMPILED_WAY, PURE_WAY) if with_bounds and any(way.startswith(kind) for way in ways)]
    head = ["" if with_bounds else "load", *(f"{kind}: target" for kind in kinds), *ways]
    lines = [head, ["---"] + ["---:"] * (len(head) - 1)]
    for name, title in names.items():
        row = [found.get((name, way)) for way in ways]
        if any(row):
            lines.append(
                [title, *(_bound_of(row, kind) for kind in kinds), *(_spell(target, with_bounds) for target in row)]
            )
    return _table(lines)


def _bound_of(row: Sequence[Target | None], kind: str) -> str:
    """Spell the bound of the compiled ways or of the pure ones; empty where there is no such way, or no bound."""
    bounds = [_spell_bound(each) for each in row if each and each.way.startswith(kind)]
    return bounds[0] if bounds else ""


def _spell_bound(target: Target) -> str:
    return "" if target.bound is None else f"{'≥' if target.at_least else '≤'} {target.bound:,g}"


def _spell(target: Target | None, with_verdict: bool) -> str:
    if target is None:
        return ""
    return f"{target.found:.2f}" + (" **no**" if with_verdict and target.met is False else "")


def others_table(targets: Sequence[Target]) -> str:
    """Lay out the targets of no way, a row each."""
    lines = [["", "target", "result", "met"], ["---", "---:", "---:", "---"]]
    for target in targets:
        if not target.way:
            lines.append([target.name, _spell_bound(target), f"{target.found:,.4g}", "yes" if target.met else "**no**"])
    return _table(lines)


def readme_sentence(parts: Parts) -> str:
    """Spell the figures that the README gives below its table; the rates are those of the first way."""
    rates: dict[str, float] = {}
    for row in Section.from_dict(parts["loads"]["sections"][0]).rows:
        if str(row[1]).startswith(OURS):
            rates.setdefault(str(row[0]), float(row[2] or 0))
    found = {target.name: target.found for target in targets_of(parts)}
    idle = OPEN * found["bytes per idle connection"] / 1e6
    single, pipelined = (round(rates[load], -4) for load in ("get90", "pipe32"))
    return (
        f"The first column's rates are about {single:,.0f} single requests a second, and {pipelined:,.0f} pipelined"
        f" ones. A million small items\ntake {found[SMALL_ITEMS]:.0f} MB; a start takes {found[START]:.0f} ms;"
        f" {OPEN:,} idle connections take {idle:.0f} MB.\n"
    )


def redis_table(part: Mapping[str, Any]) -> str:
    """Lay out the most important figures of the part "durability", ours beside those of Redis."""
    policies, slow, kills, large = (_by_server(Section.from_dict(section)) for section in part["sections"])
    rows = [["", "memcache_kv", "Redis"], ["---", "---:", "---:"]]
    for policy, found in policies.items():
        rows.append([f"requests/s, half of them writes, `{policy}`", *(f"{found[name][2]:,.0f}" for name in SERVERS)])
    for policy, found in kills.items():
        cells = [f"{found[name][4]:,} of {found[name][3]:,}" for name in SERVERS]
        rows.append([f"acknowledged writes missing after {found[OURS][2]} times `kill -9`, `{policy}`", *cells])
    for key, found in slow.items():
        rows.append([f"each fsync 50 ms longer, {key}: p99 in ms", *(f"{found[name][5]:.2f}" for name in SERVERS)])
    for content, found in large.items():
        cells = [f"{found[name][2]:.1f} s, {found[name][5]:,.0f} MB" for name in SERVERS]
        rows.append([f"a start that reads {content}: time, most memory", *cells])
    return _table(rows)


def _by_server(section: Section) -> dict[str, dict[str, Any]]:
    """Return a section's rows by what they are about, and by their server."""
    found: dict[str, dict[str, Any]] = {}
    for row in section.rows:
        clients = f", {row[2]}" if row[2] in ("read", "write") else ""
        found.setdefault(f"{row[0]}{clients}", {})[str(row[1])] = row
    return found


def _table(lines: Sequence[Sequence[str]]) -> str:
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def part_text(part: Mapping[str, Any]) -> str:
    """Lay out all sections of a part, its plots, and of what its figures are."""
    texts = [Section.from_dict(section).as_markdown().rstrip("\n") + "\n" for section in part["sections"]]
    texts += [f"![{title}](figures/{file}.svg)\n" for file, title in part["charts"].items()]
    return "\n".join([*texts, "".join(f"- {note}\n" for note in part["notes"])])


def block(name: str, parts: Parts) -> str:
    """Make the text of a marked part."""
    targets = targets_of(parts)
    if name == "targets":
        return ways_table(targets, {target.name: target.name for target in targets}, with_bounds=True)
    if name == "others":
        return others_table(targets)
    if name == "readme":
        return ways_table(targets, README_ROWS, with_bounds=False) + "\n" + readme_sentence(parts)
    if name == "redis" and "durability" in parts:
        return redis_table(parts["durability"])
    return part_text(parts[name]) if name in parts else "Not measured yet.\n"


def written(text: str, parts: Parts) -> str:
    """Write the marked parts of a document anew."""
    return MARKED.sub(lambda found: found[1] + found[2] + block(found[1], parts) + found[3], text)


def update(found: Path | None, documents: Sequence[Path] = DOCUMENTS, kept: Path = KEPT) -> None:
    """Keep what a run found, and write the documents anew."""
    parts = read_parts(kept)
    if found is not None:
        parts |= read_parts(found / "benchmarks.json")
        kept.write_text(json.dumps({"parts": parts}, indent=1, ensure_ascii=False) + "\n")
        for plot in found.glob("*.svg"):
            shutil.copyfile(plot, kept.parent / plot.name)
    for document in documents:
        document.write_text(written(document.read_text(), parts))


if __name__ == "__main__":
    update(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
