"""Random changes to what is read from files: to the bytes, and to the values of a tree of JSON or TOML.

`choose(n)` gives a whole number from 0 to n - 1; Hypothesis and fuzzers bring their own.
"""

import copy
import json
from collections.abc import Callable
from typing import Any

Choose = Callable[[int], int]

HOSTILE: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2**31, -(2**63), 10**30, 0.5, -0.0, 1e308, 1e-320),
    *("", " ", "..", "../../etc/passwd", "/etc/passwd", "c/0/0/../../../x", "C:\\x", "\u0000", "\u202e", "x" * 5000),
    *("s3://bucket/x", "file:///etc/passwd", "%s%n", "{0.__class__}", "nan", "٣"),
    *([], {}, [[]], [None], {"": ""}, {"__class__": 1}, [0] * 200),
)
"""Values that a careless reader stumbles over."""

BYTES = (
    b"\x00",
    b"\xff\xfe",
    b"{",
    b"}",
    b"[",
    b'"',
    b"\\",
    b"\n",
    b"=",
    b"'''",
    b"9" * 5000,
    b"[" * 3000,
    b"\xed\xa0\x80",
)
"""Bytes that a careless parser stumbles over."""


def places(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of all values in a tree but its root."""
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    found = []
    for key, value in inner:
        found += [(*path, key), *places(value, (*path, key))]
    return found


def mutated_tree(tree: Any, choose: Choose, *, most: int = 3) -> Any:
    """A copy of a tree in which up to ``most`` values were replaced, removed, doubled or swapped with others."""
    tree = copy.deepcopy(tree)
    for _ in range(1 + choose(most)):
        known = places(tree)
        if not known:
            break
        path = known[choose(len(known))]
        holder = _at(tree, path[:-1])
        act = choose(5)
        if act == 0:
            del holder[path[-1]]
        elif act == 1:
            holder[path[-1]] = copy.deepcopy(_at(tree, known[choose(len(known))]))
        elif act == 2 and isinstance(holder, dict):
            holder[f"{path[-1]}x"] = holder[path[-1]]
        elif act == 3 and isinstance(holder, list):
            holder.append(copy.deepcopy(holder[path[-1]]))
        else:
            holder[path[-1]] = copy.deepcopy(HOSTILE[choose(len(HOSTILE))])
    return tree


def mutated_bytes(content: bytes, choose: Choose, *, most: int = 4) -> bytes:
    """Bytes of which some were flipped, cut out, doubled or replaced by what parsers stumble over."""
    for _ in range(1 + choose(most)):
        place = choose(len(content) + 1)
        act = choose(5)
        if act == 0:
            content = content[:place]
        elif act == 1:
            content = content[:place] + BYTES[choose(len(BYTES))] + content[place:]
        elif act == 2:
            content = content[:place] + content[place + 1 + choose(40) :]
        elif act == 3:
            content = content[:place] + content[max(0, place - 1 - choose(40)) :]
        else:
            content = content[:place] + bytes([choose(256)]) + content[place + 1 :]
    return content


def as_json(tree: Any) -> bytes:
    """A tree as the bytes of a JSON file."""
    return json.dumps(tree).encode()


def _at(tree: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        tree = tree[key]
    return tree
