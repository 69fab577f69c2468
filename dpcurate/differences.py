"""What came, what went and which labels changed between two datasets; a pattern is known by its scan and its pixel.

Needs numpy and the store only.
"""

import csv
import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpcurate.errors import InputError
from dpcurate.orientations import disorientation_deg
from dpcurate.schema import SPLITS, Manifest
from dpcurate.store import Dataset

SAME_DEG = 0.01
"""Orientations closer than this are one label: float64 quaternions leave less than 1e-5 degrees."""

Labels = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Side:
    """One of two datasets that are compared: its manifest, and the labels that comparing needs."""

    manifest: Manifest
    labels: Labels

    @property
    def name(self) -> str:
        """NAME@VERSION."""
        return f"{self.manifest.name}@{self.manifest.version}"


@dataclass(frozen=True)
class Difference:
    """Rows of two datasets: ``went`` of the first, ``came`` of the second, and pairs of what is in both."""

    went: NDArray[np.int64]
    came: NDArray[np.int64]
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    other_phase: NDArray[np.bool_]
    """Of each pair."""
    angle_deg: NDArray[np.float64]
    """Of each pair: how far apart its orientations are; NaN where the phases differ."""
    other_split: NDArray[np.bool_]
    """Of each pair."""

    @property
    def changed(self) -> NDArray[np.bool_]:
        """Which pairs have another label."""
        return np.asarray(self.other_phase | (self.angle_deg > SAME_DEG))


def side(dataset: Dataset) -> Side:
    """A dataset as it is compared; reads six of its label arrays. InputError where a label's phase is not listed."""
    names = ("source", "pixel", "draw", "phase_id", "orientation", "split")
    labels = {name: dataset.read(name) for name in names}
    phase, listed = labels["phase_id"], len(dataset.manifest.phases)
    if len(phase) and not 0 <= phase.min() <= phase.max() < listed:
        raise InputError(
            f"{dataset.path}: has phases {phase.min()} to {phase.max()}, but its manifest lists {listed} phases: "
            "restore it or build the dataset again."
        )
    return Side(dataset.manifest, labels)


def difference(first: Side, second: Side) -> Difference:
    """How the second dataset differs from the first.

    A pattern of a scan is known by the scan's hash and its pixel, a simulated one by its simulation and its number in
    it. Phases are the same if name and space group are. Laws: a dataset does not differ from itself; swapping the two
    swaps what came and what went; order of patterns does not matter.

    Raises
    ------
    InputError
        A dataset holds a pattern twice.
    """
    own, other = _keys(first, second)
    for number, one in ((own, first), (other, second)):
        if len(np.unique(number)) < len(number):
            raise InputError(f"{one.name}: holds a pixel of a scan twice, so its patterns cannot be told apart.")
    _, a, b = np.intersect1d(own, other, assume_unique=True, return_indices=True)
    order = np.argsort(b)
    a, b = a[order], b[order]
    other_phase, angle = _labels_apart(first, second, a, b)
    return Difference(
        went=np.setdiff1d(np.arange(len(own)), a),
        came=np.setdiff1d(np.arange(len(other)), b),
        first=a,
        second=b,
        other_phase=other_phase,
        angle_deg=angle,
        other_split=first.labels["split"][a] != second.labels["split"][b],
    )


def told(first: Side, second: Side, found: Difference) -> list[str]:
    """A difference in words, one line each."""
    changed, angle = found.changed, found.angle_deg[found.angle_deg > SAME_DEG]
    turned = f" (median {np.median(angle):.2f}, largest {angle.max():.2f} degrees)" if len(angle) else ""
    lines = [
        f"first   {first.name}  {len(found.went) + len(found.first)} patterns",
        f"second  {second.name}  {len(found.came) + len(found.first)} patterns",
        f"came            {len(found.came):9d}{_from(second, found.came)}",
        f"went            {len(found.went):9d}{_from(first, found.went)}",
        f"in both         {len(found.first):9d}",
        f"changed label   {changed.sum():9d}  {found.other_phase.sum()} of another phase, "
        f"{len(angle)} of another orientation{turned}",
        f"changed split   {found.other_split.sum():9d}",
    ]
    if not (len(found.came) or len(found.went) or changed.any() or found.other_split.any()):
        lines.append("the same patterns with the same labels in the same splits")
    return lines


def write_table(path: Path, first: Side, second: Side, found: Difference) -> None:
    """Write a line of CSV for each pattern that came, went or changed label or split; InputError where it cannot."""
    changed = np.flatnonzero(found.changed | found.other_split)
    head = ("what", "source", "row", "column", "draw", "phase before", "phase after", "angle_deg", "split before")
    try:
        with path.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow((*head, "split after"))
            for row in found.went:
                writer.writerow(("went", *_place(first, row), _phase(first, row), "", "", _split(first, row), ""))
            for row in found.came:
                writer.writerow(("came", *_place(second, row), "", _phase(second, row), "", "", _split(second, row)))
            for pair in changed:
                a, b = found.first[pair], found.second[pair]
                angle = "" if found.other_phase[pair] else f"{found.angle_deg[pair]:.4f}"
                both = (_phase(first, a), _phase(second, b), angle, _split(first, a), _split(second, b))
                writer.writerow(("changed", *_place(second, b), *both))
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); name another file with --out.") from error


def _keys(first: Side, second: Side) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """A number for each pattern of two datasets, the same for what is the same pattern."""
    numbers: dict[str, int] = {}
    rows = []
    for one in (first, second):
        origin = np.array([numbers.setdefault(text, len(numbers)) for text in _origins(one.manifest)], np.int64)
        simulated = one.labels["draw"] >= 0
        place = np.where(simulated[:, None], -1, one.labels["pixel"]).astype(np.int64)
        draw = np.where(simulated, one.labels["draw"], -1)
        rows.append(np.column_stack([_of_source(origin, one), place, draw]))
    _, number = np.unique(np.concatenate(rows), axis=0, return_inverse=True)
    number = np.asarray(number.ravel(), np.int64)
    return number[: len(rows[0])], number[len(rows[0]) :]


def _of_source(values: NDArray[np.int64], one: Side) -> NDArray[np.int64]:
    source = one.labels["source"]
    if len(source) and not 0 <= source.min() <= source.max() < len(values):
        raise InputError(f"{one.name}: has patterns of a source that its manifest does not name; build it again.")
    return values[source]


def _origins(manifest: Manifest) -> list[str]:
    """What each source of a dataset is known by: a scan by its hash, a simulation by its plan without its number."""
    plan = {key: value for key, value in (manifest.simulation or {}).items() if key != "number"}
    simulated = hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()
    return [
        f"simulated {source.note} {simulated}"
        if source.kind == "simulated"
        else f"scan {source.scan_sha256 or source.scan_path}"
        for source in manifest.sources
    ]


def _labels_apart(
    first: Side, second: Side, a: NDArray[np.int64], b: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Of pairs of rows: whether their phases differ, and the angle between their orientations where not."""
    known = [(phase.name, phase.space_group) for phase in second.manifest.phases]
    renamed = [(phase.name, phase.space_group) for phase in first.manifest.phases]
    number = np.array([known.index(name) if name in known else -1 for name in renamed] or [-1])
    phase = second.labels["phase_id"][b]
    other = number[first.labels["phase_id"][a]] != phase
    angle = np.full(len(a), np.nan)
    for own, record in enumerate(second.manifest.phases):
        here = ~other & (phase == own)
        pair = first.labels["orientation"][a[here]], second.labels["orientation"][b[here]]
        angle[here] = disorientation_deg(*pair, record.proper_rotations())
    return other, angle


def _from(one: Side, rows: NDArray[np.int64]) -> str:
    """How many of some rows are of which source."""
    number = Counter(one.labels["source"][rows].tolist())
    parts = [f"{count} of {_source(one, source)}" for source, count in sorted(number.items())]
    return f"  {', '.join(parts)}" if parts else ""


def _source(one: Side, number: int) -> str:
    source = one.manifest.sources[number]
    return source.scan_path or source.note or source.kind


def _place(one: Side, row: int) -> tuple[object, ...]:
    labels = one.labels
    return (_source(one, labels["source"][row]), *labels["pixel"][row].tolist(), int(labels["draw"][row]))


def _phase(one: Side, row: int) -> str:
    return one.manifest.phases[one.labels["phase_id"][row]].name


def _split(one: Side, row: int) -> str:
    return SPLITS[one.labels["split"][row]]
