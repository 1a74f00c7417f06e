#!/usr/bin/env python
"""Counts the rooms of promptopt/, the arrows (imports) between them, and the arrows that run back up.

    python scripts/rooms.py [CHECKOUT]

A room is a folder of promptopt/, or a module that lies loose in it. An arrow leads from one room to another
that it imports, however often, also from inside a function or for type checking alone. For any order of the
rooms, an arrow runs back up when it leads from a lower room to a higher one; what is printed is the smallest
number over all orders that a search finds, so 0 means that the rooms can be stacked. Rooms of a circle are
those that reach each other both ways; "in circles" counts all arrows between rooms of one circle.

For another revision: `git worktree add ../before REVISION`, then `python scripts/rooms.py ../before`.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from pathlib import Path

import grimp

PACKAGE = "promptopt"
OTHERS = ("generators", "evaluation", "studies")
FACES = ("__main__",)  # no rooms: they only hand on

Arrows = dict[str, set[str]]


def rooms_and_arrows(checkout: Path) -> Arrows:
    """What each room of promptopt/ imports of the others."""
    sys.path.insert(0, str(checkout.resolve()))
    others = [name for name in OTHERS if (checkout / name / "__init__.py").is_file()]
    graph = grimp.build_graph(PACKAGE, *others, cache_dir=None)
    arrows: Arrows = {room: set() for module in graph.modules if (room := _room(module))}
    for module in graph.modules:
        room = _room(module)
        for imported in graph.find_modules_directly_imported_by(module):
            other = _room(imported)
            if room and other and room != other:
                arrows[room].add(other)
    return arrows


def _room(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if parts[0] == PACKAGE and len(parts) > 1 and parts[1] not in FACES else None


def circles(arrows: Arrows) -> list[set[str]]:
    """Groups of rooms that reach each other both ways."""
    reach = {room: _reachable(room, arrows) for room in arrows}
    groups: list[set[str]] = []
    for room in sorted(arrows):
        group = {other for other in reach[room] if room in reach[other]} | {room}
        if len(group) > 1 and group not in groups:
            groups.append(group)
    return groups


def _reachable(start: str, arrows: Arrows) -> set[str]:
    seen: set[str] = set()
    todo = [start]
    while todo:
        for other in arrows[todo.pop()]:
            if other not in seen:
                seen.add(other)
                todo.append(other)
    return seen


def back_arrows(arrows: Arrows, group: set[str]) -> list[tuple[str, str]]:
    """The fewest arrows within a circle that run back up, by moving one room at a time while that helps."""
    inside = {room: arrows[room] & group for room in group}
    importers: dict[str, int] = defaultdict(int)
    for targets in inside.values():
        for target in targets:
            importers[target] += 1
    order = sorted(group, key=lambda room: (importers[room] - len(inside[room]), room))
    best = _back(order, inside)
    improved = True
    while improved:
        improved = False
        for room in sorted(group):
            rest = [other for other in order if other != room]
            for place in range(len(order)):
                tried = [*rest[:place], room, *rest[place:]]
                found = _back(tried, inside)
                if len(found) < len(best):
                    order, best, improved = tried, found, True
    return best


def _back(order: list[str], inside: Arrows) -> list[tuple[str, str]]:
    place = {room: i for i, room in enumerate(order)}
    return [(a, b) for a in order for b in sorted(inside[a]) if place[b] < place[a]]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkout", nargs="?", type=Path, default=Path(__file__).resolve().parents[1])
    checkout = parser.parse_args().checkout
    if not (checkout / PACKAGE / "__init__.py").is_file():
        parser.error(f"{checkout}: there is no {PACKAGE}/__init__.py; give a checkout of the repository")
    arrows = rooms_and_arrows(checkout)
    loops = circles(arrows)
    back = [arrow for group in loops for arrow in back_arrows(arrows, group)]
    folders = [room for room in arrows if (checkout / PACKAGE / room).is_dir()]
    print(f"rooms        {len(arrows)} ({len(folders)} folders, {len(arrows) - len(folders)} loose modules)")
    print(f"arrows       {sum(map(len, arrows.values()))}")
    print(f"in circles   {sum(len(arrows[room] & group) for group in loops for room in group)}")
    print(f"back arrows  {len(back)}")
    for start, end in back:
        print(f"    {start} -> {end}")
    for group in loops:
        print(f"circle of {len(group)} rooms: {', '.join(sorted(group))}")


if __name__ == "__main__":
    main()
