"""The picture of docs/architecture.md: the rooms of ``harness`` and who imports whom.

An arrow is drawn where no longer way leads to the same room, so that a few arrows show the order of
all. Imports inside functions count; those for type checking do too.
"""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
WIDTH, HEIGHT, GAP, RISE = 116, 32, 22, 40
Graph = dict[str, set[str]]


def rooms() -> dict[str, list[Path]]:
    """Room or file of ``harness/`` → its Python files."""
    found: dict[str, list[Path]] = {}
    for file in sorted((ROOT / "harness").rglob("*.py")):
        room = file.relative_to(ROOT / "harness").parts[0].removesuffix(".py")
        if room not in ("__init__", "__main__"):
            found.setdefault(room, []).append(file)
    return found


def imports(file: Path) -> Iterator[str]:
    """The modules of ``harness`` that a file imports, dotted."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module == "harness":
            names = [f"harness.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        yield from (name for name in names if name.startswith("harness."))


def graph() -> Graph:
    """Room → the other rooms that it imports."""
    known = rooms()
    return {
        room: {
            name
            for file in files
            for module in imports(file)
            if (name := module.split(".")[1]) in known and name != room
        }
        for room, files in known.items()
    }


def reach(room: str, edges: Graph) -> set[str]:
    """Every room that is imported directly or through others."""
    found: set[str] = set()
    waiting = set(edges[room])
    while waiting:
        found |= waiting
        waiting = set().union(*(edges[each] for each in waiting)) - found
    return found


def reduced(edges: Graph) -> Graph:
    """The edges without those that a longer way makes superfluous."""
    return {
        room: {each for each in targets if not any(each in reach(o, edges) for o in targets)}
        for room, targets in edges.items()
    }


def levels(edges: Graph) -> dict[str, int]:
    """Room → the length of the longest way down from it."""
    found: dict[str, int] = {}
    while len(found) < len(edges):
        for room, targets in edges.items():
            if room not in found and targets <= found.keys():
                found[room] = 1 + max((found[each] for each in targets), default=-1)
    return found


def boxes() -> tuple[dict[str, list[str]], Graph]:
    """What is drawn: the rooms, the base (files that import nothing but each other), the API."""
    files, edges = rooms(), graph()
    base: set[str] = set()
    while more := {
        room
        for room, targets in edges.items()
        if f"{room}.py" == files[room][0].name and targets <= base and room not in base
    }:
        base |= more
    box_of = {room: "base" if room in base else room.partition("_")[0] for room in edges}
    members: dict[str, list[str]] = {}
    for room, box in sorted(box_of.items()):
        members.setdefault(box, []).append(room)
    return members, {
        box: {box_of[each] for room in inside for each in edges[room]} - {box}
        for box, inside in members.items()
    }


def light() -> set[str]:
    """The rooms that never import torch, as the import contract lists them."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    modules = contracts["tool"]["importlinter"]["contracts"][0]["source_modules"]
    return {"base", *(name.split(".")[1] for name in modules)}


def architecture_svg() -> str:
    """The picture as SVG: the entrances above, the base below."""
    members, edges = boxes()
    edges = reduced(edges)
    # The base has the lowest floor to itself.
    height = levels({box: targets | {"base"} - {box} for box, targets in edges.items()})
    floors: dict[int, list[str]] = {}
    for box in sorted(members):
        floors.setdefault(height[box], []).append(box)
    top, widest = max(floors), max(map(len, floors.values()))
    places: dict[str, tuple[float, float]] = {}
    width = widest * (WIDTH + GAP) + GAP
    for floor in sorted(floors):
        row = floors[floor]
        row.sort(key=lambda box: (_middle([places[each][0] for each in edges[box]], width), box))
        left = (width - len(row) * (WIDTH + GAP) + GAP) / 2
        for index, box in enumerate(row):
            y = GAP + (top - floor) * (HEIGHT + RISE)
            places[box] = (left + index * (WIDTH + GAP) + WIDTH / 2, y)
    total = GAP * 2 + (top + 1) * HEIGHT + top * RISE
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {total:g}" '
        'font-family="sans-serif" text-anchor="middle">',
        "<title>The rooms of harness, and which imports which</title>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" fill="#667"/></marker></defs>',
        f'<rect width="{width:g}" height="{total:g}" fill="#fff"/>',
    ]
    for box in sorted(edges):
        for target in sorted(edges[box]):
            (x, y), (u, v) = places[box], places[target]
            y += HEIGHT
            bend = (v - y) / 2
            parts.append(
                f'<path d="M{x:g} {y:g}C{x:g} {y + bend:g} {u:g} {v - bend:g} {u:g} {v:g}" '
                'fill="none" stroke="#667" marker-end="url(#tip)"/>'
            )
    parts += [_box(box, *places[box], box in light()) for box in sorted(members)]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _middle(values: list[float], width: float) -> float:
    return sum(values) / len(values) if values else width / 2


def _box(name: str, x: float, y: float, torch_free: bool) -> str:
    fill = "#e4f3e4" if torch_free else "#e3ecfa"
    return (
        f'<rect x="{x - WIDTH / 2:g}" y="{y:g}" width="{WIDTH}" height="{HEIGHT}" rx="6" '
        f'fill="{fill}" stroke="#667"/>'
        f'<text x="{x:g}" y="{y + 21:g}" font-size="15">{name}</text>'
    )
