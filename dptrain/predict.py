"""From a trained network and a scan to the same index folder that `dpcurate index` writes."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from dpcurate.bad_patterns import unusable, usable
from dpcurate.confidence import neighbour_agreement, reliability
from dpcurate.crystal_maps import IndexResult, check_replaceable, software_versions, write_index
from dpcurate.grains import find_grains
from dpcurate.orientations import Array, disorientation_deg, turn_pattern
from dpcurate.recipe import Recipe, recipe_toml
from dpcurate.scans import Scan, open_scan, reading, sha256_of
from dpcurate.schema import PhaseRecord
from dptrain.checkpoint import Predictor, load_model
from dptrain.compatible import check_reach
from dptrain.data import reach_of
from dptrain.launch import choose_device
from dptrain.refine_proposals import Refined, check_atoms, refine_proposals
from dptrain.runs import checkpoint_file
from dptrain.views import N_VIEWS, check_views

BAND_PATTERNS = 1024
"""Patterns that are held in memory at a time, about: 67 MB in float32 at 128 x 128 pixels."""

SUFFIX = ".predicted"


@dataclass(frozen=True)
class Answers:
    """A network's answers to a scan, best first, in the detector's frame.

    ``orientation`` (rows, columns, n, 4) lab to crystal; ``probability`` (rows, columns, n), the mass around each;
    ``phase_id`` (rows, columns, n); ``skipped``, by reason, masks (rows, columns) of patterns that were not shown.
    """

    orientation: Array
    probability: NDArray[np.float32]
    phase_id: NDArray[np.int16]
    skipped: dict[str, NDArray[np.bool_]]

    @property
    def unseen(self) -> NDArray[np.bool_]:
        """Pixels whose pattern was skipped, for whatever reason."""
        return np.asarray(np.any(list(self.skipped.values()), axis=0))


def predict_scan(
    checkpoint: str | Path,
    scan_path: str | Path,
    recipe: Recipe,
    *,
    out: Path | None = None,
    overwrite: bool = False,
    device: str = "auto",
    refine: bool = False,
    average: bool = False,
) -> IndexResult:
    """Predict the crystal map of a scan and write its index folder; returns the result with its folder.

    Parameters
    ----------
    checkpoint
        A run's folder (its best network) or a checkpoint file.
    scan_path, recipe
        Anything HyperSpy reads; how to calibrate it, join its grains and how far the rival of ``reliability`` lies.
    out
        Default: ``SCAN.predicted`` in the checkpoint's folder.
    overwrite, device
        Whether ``out`` may be replaced; one of ``launch.DEVICES``.
    refine
        Whether the network's answers are only starts, from which matching climbs to what each pattern fits best.
    average
        Whether each pattern is shown turned and mirrored too, and the mean is taken; ``views.N_VIEWS`` times the work.

    Raises
    ------
    InputError
        No checkpoint, or one of another model; a scan that cannot be read, has no calibration, shows much less than
        the network looks at or has not one usable pattern; ``out`` exists or is no index; phases without atoms where
        ``refine`` needs them; ``average`` for a network whose outputs do not turn with the pattern.
    """
    predictor = load_model(checkpoint, choose_device(device))
    file = checkpoint_file(checkpoint)
    if average:
        check_views(predictor.config, predictor.head, what=str(file))
    out = out or file.parent / f"{Path(scan_path).stem}{SUFFIX}"
    check_replaceable(out, overwrite=overwrite)
    if refine:
        check_atoms(predictor.phases, what=str(file))
    scan = open_scan(scan_path, recipe.scan)
    check_scan_reach(predictor, scan)
    start = time.perf_counter()
    answers = network_answers(predictor, scan, n_best=recipe.matching.n_best, average=average)
    usable(answers.skipped, name=scan.name)
    spent = {"prediction": round(time.perf_counter() - start, 2)}
    refined = None
    if refine:
        start = time.perf_counter()
        given = (answers.orientation, answers.probability, answers.phase_id)
        refined = refine_proposals(scan, *given, phases=predictor.phases, recipe=recipe)
        spent["refinement"] = round(time.perf_counter() - start, 2)
    info = {
        "scan": {"path": str(scan.path), "sha256": sha256_of(Path(scan_path))},
        "shape": list(scan.shape),
        "calibration": scan.calibration.model_dump(mode="json"),
        "phases": [phase.model_dump(mode="json") for phase in predictor.phases],
        "engine": f"network {predictor.config.model}",
        "views": N_VIEWS if average else 1,
        "checkpoint": {"path": str(file.resolve()), "sha256": sha256_of(file)},
        "software": software_versions() | {"torch": version("torch")},
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": spent,
        "skipped": {reason: int(mask.sum()) for reason, mask in answers.skipped.items()},
    }
    rotation_deg = scan.calibration.rotation_deg
    result = to_index(answers, predictor.phases, recipe, rotation_deg=rotation_deg, info=info, refined=refined)
    return replace(result, folder=write_index(result, out, recipe_toml=recipe_toml(recipe)))


def check_scan_reach(predictor: Predictor, scan: Scan) -> None:
    """InputError when a scan's patterns reach much less far than the network looks; see ``compatible.check_reach``."""
    calibration, shape = scan.calibration, scan.patterns.shape[2:]
    k_max = predictor.config.input.k_max
    assert k_max is not None, "a trained network has looked at patterns"
    reach = reach_of(np.array([calibration.center_xy]), np.array([calibration.scale_inv_angstrom]), shape)
    check_reach(reach, k_max, what=scan.name, size=shape)


def network_answers(
    predictor: Predictor, scan: Scan, *, n_best: int, average: bool = False, progress: bool = True
) -> Answers:
    """The ``n_best`` answers to every pattern of a scan, read band by band of rows."""
    bands = list(_bands(predictor, scan, n_best=n_best, average=average, progress=progress))
    return Answers(
        orientation=np.concatenate([band.orientation for band in bands]),
        probability=np.concatenate([band.probability for band in bands]),
        phase_id=np.concatenate([band.phase_id for band in bands]),
        skipped={reason: np.concatenate([band.skipped[reason] for band in bands]) for reason in bands[0].skipped},
    )


def _bands(predictor: Predictor, scan: Scan, *, n_best: int, average: bool, progress: bool) -> Iterator[Answers]:
    rows, columns = scan.shape
    height = max(1, BAND_PATTERNS // columns)
    center, scale = scan.calibration.center_xy, scan.calibration.scale_inv_angstrom
    with tqdm(total=rows * columns, desc="predict", unit="pattern", disable=not progress) as bar:
        for first in range(0, rows, height):
            with reading(scan.name):
                patterns = np.asarray(scan.patterns[first : first + height].compute())
            shown = patterns.reshape(-1, *patterns.shape[2:])
            answer = predictor.predict(shown, center, scale, n_best=n_best, average=average)
            orientation, probability, phase_id = answer
            shape = (*patterns.shape[:2], n_best)
            yield Answers(
                orientation.reshape(*shape, 4), probability.reshape(shape), phase_id.reshape(shape), unusable(patterns)
            )
            bar.update(len(shown))


def to_index(
    answers: Answers,
    phases: tuple[PhaseRecord, ...],
    recipe: Recipe,
    *,
    rotation_deg: float,
    info: dict[str, Any],
    refined: Refined | None = None,
) -> IndexResult:
    """From a network's answers to a crystal map in the scan's frame.

    Confidence is the probability mass around the best answer; reliability compares it with the best answer of
    another phase or more than ``recipe.matching.runner_up_deg`` away; correlation is not defined and NaN. Where answers
    were ``refined``, candidates, correlation and reliability are matching's, and confidence is the probability of the
    proposal nearest to the best. Skipped pixels have phase -1 and confidence and reliability 0.
    """
    symmetries = [phase.proper_rotations() for phase in phases]
    skipped, boundary = answers.unseen, recipe.grains.boundary_deg
    if refined is None:
        found, score, number = answers.orientation, answers.probability, answers.phase_id
        rival = rival_probability(answers, symmetries, apart_deg=recipe.matching.runner_up_deg)
        probability, correlation = answers.probability, np.full(skipped.shape, np.nan, np.float32)
    else:
        matches, probability, info = refined.matches, refined.probability, info | refined.info
        found, score, number, rival = matches.orientation, matches.score, matches.phase_id, matches.runner_up_score
        correlation = np.where(skipped, 0, score[..., 0]).astype(np.float32)
    orientation = turn_pattern(found, rotation_deg)
    best = orientation[:, :, 0]
    phase_id = np.where(skipped, -1, number[..., 0]).astype(np.int16)
    return IndexResult(
        orientation=best,
        phase_id=phase_id,
        confidence=np.where(skipped, 0, np.clip(probability[..., 0], 0, 1)).astype(np.float32),
        correlation=correlation,
        reliability=np.where(skipped, 0, reliability(score[..., 0], rival)).astype(np.float32),
        agreement=neighbour_agreement(best, phase_id, symmetries=symmetries, boundary_deg=boundary),
        grain_id=find_grains(
            best, phase_id, symmetries=symmetries, boundary_deg=boundary, min_pixels=recipe.grains.min_pixels
        ),
        candidate_orientation=orientation,
        candidate_score=score,
        candidate_phase_id=number,
        candidate_probability=None if refined is None else probability,
        phases=phases,
        info=info,
    )


def rival_probability(answers: Answers, symmetries: list[Array], *, apart_deg: float) -> NDArray[np.float32]:
    """Largest probability of an answer of another phase than the best or ``apart_deg`` from it, (rows, columns)."""
    rival = np.empty(answers.probability.shape[:2], np.float32)
    for row, (orientation, phase_id) in enumerate(zip(answers.orientation, answers.phase_id, strict=True)):
        other = phase_id != phase_id[:, :1]
        for number, symmetry in enumerate(symmetries):
            apart = disorientation_deg(orientation[:, :1], orientation, symmetry) > apart_deg
            other |= (phase_id == number) & apart
        rival[row] = np.where(other, answers.probability[row], 0).max(axis=-1)
    return rival
