"""What the runs of a study learn from and are judged on: pixels held out, labels replaced, datasets built of them."""

import functools
import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dpcurate.crystal_maps import IndexResult, write_index
from dpcurate.curate import build_dataset, simulate_dataset
from dpcurate.dataset_parts import geometry_of
from dpcurate.labels import kept_pixels, merge_phases, pixel_splits
from dpcurate.patterns import simulated_patterns
from dpcurate.recipe import ScanRecipe
from dpcurate.scans import Scan, open_scan
from dpcurate.schema import SPLITS, PhaseRecord
from dpcurate.simulation_plan import SimulationPlan, SimulationRecipe
from dpcurate.simulator import Simulator, make_simulator
from dptrain.checkpoint import write_aside
from dptrain.corruption import Corruption, corrupt
from dptrain.scores import Mask, untrained_grains
from dptrain.study_folder import Subject, locked, make_folder
from dptrain.study_plan import Protocol, Trial

HELD_OUT, HELD_OUT_INSIDE, HELD_PIXELS, TRAINING = (
    "held-out grains",
    "held-out grains, inside",
    "held-out pixels",
    "trained pixels",
)
"""Groups of pixels: of grains without a training pixel, and those of them that show one grain alone; pixels drawn at
random of grains that are trained on, as the paper's own random split has them; and what is trained on itself."""

PIXEL_STREAM = 7
"""Keeps the draw of held-out pixels apart from others that share its seed."""

UNKNOWN = 255
"""Split of a pixel whose grain is in none."""


@dataclass(frozen=True)
class Division:
    """How one seed divides a scan, (rows, columns): the split of each true grain, and pixels that no run trains on."""

    split: NDArray[np.uint8]
    held: Mask


def divide(subject: Subject, *, seed: int, share: float) -> Division:
    """The division of a scan: true grains into splits, and ``share`` of all pixels held out at random."""
    index, grain = subject.index, subject.truth.grain
    number = int(index.info["scan"]["sha256"][:8], 16)
    held = np.random.default_rng([seed, number, PIXEL_STREAM]).random(index.shape) < share
    held &= index.phase_id >= 0
    split = pixel_splits(_with(subject, held), seed=seed).reshape(index.shape)
    known = (index.phase_id >= 0) & ~held
    of_grain = np.full(int(grain.max()) + 2, UNKNOWN, np.uint8)
    of_grain[grain[known]] = split[known]
    return Division(of_grain[grain], held)


def groups(subject: Subject, part: Division) -> dict[str, Mask]:
    """The groups of pixels of a scan that networks are judged on, masks (rows, columns)."""
    truth, known = subject.truth, subject.truth.phase_id >= 0
    trained = (part.split == SPLITS.index("train")) & ~part.held & (subject.index.phase_id >= 0)
    held = known & (part.split == SPLITS.index("test")) & untrained_grains(truth.grain, trained)
    return {
        HELD_OUT: held,
        HELD_OUT_INSIDE: held & truth.inside,
        HELD_PIXELS: known & part.held & (part.split == SPLITS.index("train")),
        TRAINING: known & trained,
    }


def scan_of(index: IndexResult) -> Scan:
    """The scan behind an index, calibrated as it was indexed."""
    calibration = index.info["calibration"]
    keys = ("scale_inv_angstrom", "center_xy", "beam_energy_kev", "flip", "rotation_deg")
    return open_scan(index.info["scan"]["path"], ScanRecipe(**{key: calibration[key] for key in keys}))


def build(
    trial: Trial, protocol: Protocol, subjects: Sequence[Subject], parts: Sequence[Division], *, out: Path
) -> Path:
    """Build the dataset of a trial and return its folder."""
    simulate = functools.partial(_simulate, folder=out / "simulated")
    if trial.kind == "simulated":
        return _simulated_alone(trial, protocol, subjects, out=out)
    folders = [_labelled(one, part, trial, folder=out / "indexes") for one, part in zip(subjects, parts, strict=True)]
    drawn = trial.kind == "random"
    indexes = [_with(one, part.held) for one, part in zip(subjects, parts, strict=True)]
    kept = sum(len(kept_pixels(index, min_confidence=trial.min_confidence)) for index in indexes)
    return build_dataset(
        folders,
        name=trial.name,
        min_confidence=0.0 if drawn else trial.min_confidence,
        sample=kept if drawn else None,
        simulated=0 if trial.kind == "scan only" else protocol.simulated,
        simulation=SimulationRecipe(),
        simulate=simulate,
        seed=trial.seed,
        root=out / "datasets",
        progress=False,
    )


def _with(subject: Subject, held: Mask) -> IndexResult:
    """The index of a scan with true grains in place of found ones, and held-out pixels not indexed."""
    index = subject.index
    phase_id = np.where(held, -1, index.phase_id).astype(np.int16)
    return replace(index, grain_id=subject.truth.grain.astype(np.int32), phase_id=phase_id)


def _labelled(subject: Subject, part: Division, trial: Trial, *, folder: Path) -> Path:
    """Write, unless it is there, the index whose labels a trial learns; all trials with the same labels share it."""
    wrong = f"-{trial.corruption}-{trial.rate:g}".replace(" ", "-") if trial.corruption else ""
    path = folder / f"{subject.name}-seed{trial.seed}{wrong}.index"
    with locked(folder / f"{path.name}.lock"):
        if (path / "index.json").is_file():
            return path
        result = _with(subject, part.held)
        changes = {"grains": "exact, from the scan's truth", "made from": str(subject.index.folder)}
        if trial.corruption:
            changes["labels"] = f"exact, {trial.rate:g} made wrong ({trial.corruption})"
            result = replace(
                result, orientation=_corrupted(subject, trial.corruption, rate=trial.rate, seed=trial.seed)
            )
        assert subject.index.folder is not None, "read_index gives the folder"
        recipe = (subject.index.folder / "recipe.toml").read_text(encoding="utf-8")
        return write_index(replace(result, info=result.info | changes), path, recipe_toml=recipe)


def _corrupted(subject: Subject, kind: Corruption, *, rate: float, seed: int) -> NDArray[np.float64]:
    """Exact orientations of a scan with some made wrong, (rows, columns, 4), each phase under its own symmetry."""
    orientation, truth = subject.truth.quat.copy(), subject.truth
    for number, phase in enumerate(subject.index.phases):
        here = subject.index.phase_id == number
        symmetry = phase.proper_rotations()
        orientation[here], _ = corrupt(
            orientation[here], kind=kind, rate=rate, grain=truth.grain[here], symmetry=symmetry, seed=seed
        )
    return orientation


def _simulated_alone(trial: Trial, protocol: Protocol, subjects: Sequence[Subject], *, out: Path) -> Path:
    first = subjects[0].index
    rows, columns = scan_of(first).patterns.shape[2:]
    geometry = geometry_of(first.info["calibration"], (int(rows), int(columns)))
    plan = SimulationPlan(recipe=SimulationRecipe(), geometry=geometry, seed=trial.seed, number=protocol.simulated)
    phases, _ = merge_phases([one.index.phases for one in subjects])
    return simulate_dataset(plan, phases, name=trial.name, root=out / "datasets", recipe={}, progress=False)


def _simulate(simulator: Simulator, index: NDArray[np.int64], *, folder: Path) -> Iterator[NDArray[np.uint16]]:
    """All patterns of a plan, simulated once for all datasets that hold them."""
    yield _once(simulator.plan.model_dump_json(), simulator.phases, len(index), folder)


@functools.lru_cache(maxsize=1)
def _once(plan: str, phases: tuple[PhaseRecord, ...], n: int, folder: Path) -> NDArray[np.uint16]:
    name = hashlib.sha256(f"{plan} {phases} {n}".encode()).hexdigest()[:16]
    path = make_folder(folder) / f"{name}.npy"
    with locked(folder / f"{name}.lock"):
        if not path.is_file():
            simulator = make_simulator(SimulationPlan.model_validate_json(plan), phases)
            buffer = io.BytesIO()
            np.save(buffer, np.concatenate(list(simulated_patterns(simulator, np.arange(n)))))
            write_aside(path, buffer.getvalue())
        patterns: NDArray[np.uint16] = np.load(path)
        return patterns
