"""The numbers of one predicted scan: how far off labels and network are, over which groups of pixels."""

import csv
import io
from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dpcurate.orientations import Array
from dptrain.checkpoint import write_aside
from dptrain.report_data import ScanEvidence
from dptrain.report_text import ALL, CONFIDENT, INSIDE, SEEN, UNSEEN, UNSEEN_INSIDE, WRONG, WRONG_DEG
from dptrain.scores import COLUMNS, Mask, Score, map_errors_deg, score_groups, untrained_grains

MIN_CONFIDENCE = 0.8
"""Labels from here on count as confident; the default of `dpcurate build-dataset`."""

Errors = dict[str, Array]


def errors_of(scan: ScanEvidence) -> Errors:
    """Disorientation maps in degrees by name of the answer, shapes (rows, columns).

    Against the exact truth where it is known; else of the network against the labels; nothing without either.
    """
    network, labels = scan.network, scan.labels
    if scan.truth is None:
        if labels is None:
            return {}
        names = [phase.name for phase in network.phases]
        same = np.array([names.index(phase.name) if phase.name in names else -2 for phase in labels.phases])
        phase = np.where(labels.phase_id < 0, -2, same[labels.phase_id]).astype(np.int16)
        label = np.where((labels.phase_id < 0)[..., None], np.nan, labels.orientation)
        error = map_errors_deg(
            network.orientation, network.phase_id, label, phases=network.phases, reference_phase=phase
        )
        return {"network against labels": error}
    answers = {"labels": labels, "network": network}
    return {
        name: map_errors_deg(answer.orientation, answer.phase_id, scan.truth.quat, phases=answer.phases)
        for name, answer in answers.items()
        if answer is not None
    }


def grains_of(scan: ScanEvidence) -> NDArray[np.integer] | None:
    """True grains of a scan, else those of its index, (rows, columns); None when neither is known."""
    if scan.truth is not None:
        return scan.truth.grain
    return None if scan.labels is None else scan.labels.grain_id


def groups_of(scan: ScanEvidence) -> dict[str, Mask]:
    """The groups of pixels that scores are told of, masks (rows, columns) by name."""
    groups: dict[str, Mask] = {ALL: np.ones(scan.network.shape, bool)}
    if scan.truth is not None:
        groups[INSIDE] = scan.truth.inside
    if scan.labels is not None:
        groups[CONFIDENT] = (scan.labels.confidence >= MIN_CONFIDENCE) & (scan.labels.phase_id >= 0)
        if scan.truth is not None:
            groups[WRONG] = errors_of(scan)["labels"] > WRONG_DEG
    grain = grains_of(scan)
    if grain is not None:
        unseen = untrained_grains(grain, scan.trained)
        groups[SEEN], groups[UNSEEN] = ~unseen, unseen
        if scan.truth is not None:
            groups[UNSEEN_INSIDE] = unseen & scan.truth.inside
    return groups


def scan_scores(scan: ScanEvidence) -> list[Score]:
    """The table of numbers of one scan."""
    return score_groups(errors_of(scan), groups_of(scan), grain=grains_of(scan))


def write_scores(path: Path, rows: Sequence[tuple[str, Score]], guess: Score | None) -> Path:
    """Write scores as CSV with the scan's name in front, the guess last."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(("scan", *COLUMNS))
    writer.writerows([(name, *astuple(score)) for name, score in rows])
    if guess is not None:
        writer.writerow(("", *astuple(guess)))
    write_aside(path, stream.getvalue().encode())
    return path
