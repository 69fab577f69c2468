"""The choices of training that are tried one at a time, and which of them answer to a claim of the paper."""

from typing import Any

USUAL = "usual"

CHOICES: dict[str, dict[str, Any]] = {
    USUAL: {},
    "head grid": {"head": {"name": "grid"}},
    "head harmonics": {"head": {"name": "harmonics"}},
    "cartesian grid": {"head": {"name": "grid"}, "input": {"frame": "cartesian"}},
    "euler clamped": {"head": {"name": "euler"}, "input": {"frame": "cartesian"}},
    "euler free": {"head": {"name": "euler", "clamp": False}, "input": {"frame": "cartesian"}},
    "kernel 5": {"network": {"kernel": 5}},
    "kernel 7": {"network": {"kernel": 7}},
    "exponential": {"schedule": "exponential"},
    "constant": {"schedule": "constant"},
    "exponential batch 16": {"schedule": "exponential", "batch_size": 16},
    "exponential batch 256": {"schedule": "exponential", "batch_size": 256},
    "confident first": {"confidence_order": "confident-first"},
    "random order": {"confidence_order": "random"},
}
"""What each changes of the training that the protocol says; all show as many patterns, at the same learning rate."""

COMPARED: dict[str, tuple[tuple[str, str], ...]] = {
    "d": (("confident first", "random order"), ("confident first", USUAL)),
    "e": (
        ("exponential", "exponential batch 16"),
        ("exponential", "exponential batch 256"),
        ("exponential", "constant"),
        ("exponential", USUAL),
    ),
    "f": (("euler clamped", "euler free"),),
    "g": (("kernel 5", USUAL), ("kernel 7", USUAL)),
}
"""By the letter of a claim: which choice it sets against which."""

DENIES = ("f", "g")
"""Claims that the first choice of each pair is no better."""
