"""Accuracy against conditions, one at a time, of template matching and networks on the same simulated patterns."""

import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import hyperspy.api as hs
import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from tqdm import tqdm

from dpcurate.conditions import InstrumentModel, SampleModel
from dpcurate.crystal_maps import software_versions
from dpcurate.errors import InputError
from dpcurate.orientations import Array
from dpcurate.pipeline import index_scan, read_phases
from dpcurate.recipe import load_recipe
from dpcurate.scans import sha256_of
from dpcurate.schema import PhaseRecord, Record
from dpcurate.simulation_plan import Geometry, SimulationPlan, SimulationRecipe
from dpcurate.simulator import Drawn, draw, make_simulator, simulate
from dptrain.checkpoint import Predictor, load_model
from dptrain.launch import choose_device
from dptrain.scores import map_errors_deg
from dptrain.study_folder import locked, make_folder, read_study, write_json
from dptrain.study_plan import STUDY_FILE

MATCHING = "template matching"

COLUMNS = 16
"""Patterns are shown to template matching as a scan so wide; no neighbour has a say."""

Factor = Literal["thickness", "dose", "precession", "scale error", "tilt spread", "overlap"]

UNITS: dict[Factor, str] = {
    "thickness": "thickness (Angstrom)",
    "dose": "electrons a pattern",
    "precession": "half-angle of precession (degrees)",
    "scale error": "by how much patterns are larger than the calibration says (share)",
    "tilt spread": "standard deviation of tilts inside the probe (degrees)",
    "overlap": "share of the first of two grains",
}

LEVELS: dict[Factor, tuple[float, ...]] = {
    "thickness": (50.0, 100.0, 200.0, 400.0, 600.0, 1000.0),
    "dose": (300.0, 1000.0, 3000.0, 10_000.0, 30_000.0),
    "precession": (0.0, 0.3, 0.7, 1.2),
    "scale error": (-0.05, -0.02, 0.0, 0.02, 0.05),
    "tilt spread": (0.0, 0.3, 1.0, 2.0),
    "overlap": (0.5, 0.6, 0.7, 0.85, 1.0),
}

USUAL: dict[Factor, float] = {
    "thickness": 300.0,
    "dose": 10_000.0,
    "precession": 0.7,
    "scale error": 0.0,
    "tilt spread": 0.1,
    "overlap": 1.0,
}
"""What every factor is while another one changes."""


class ConditionsProtocol(Record):
    """Everything but phase and networks that decides a study of conditions."""

    preset: str = "full"
    number: int = Field(512, ge=16, multiple_of=COLUMNS, description="patterns of a level and seed")
    seeds: int = Field(3, ge=1)
    levels: dict[Factor, tuple[float, ...]] = LEVELS
    shape: tuple[int, int] = (128, 128)
    scale_inv_angstrom: float = 0.024
    beam_energy_kev: float = 200.0


def conditions_protocol(*, quick: bool, cpu: bool) -> ConditionsProtocol:
    """The protocol of a preset: 48 patterns a level and few levels, 128, or 512."""
    if quick and cpu:
        raise InputError("--quick and --cpu are two presets; give one.")
    if quick:
        few = {factor: (values[0], values[len(values) // 2], values[-1]) for factor, values in LEVELS.items()}
        return ConditionsProtocol(preset="quick", number=48, levels=few)
    return ConditionsProtocol(preset="cpu", number=128) if cpu else ConditionsProtocol()


def run_conditions(
    phase: Path, protocol: ConditionsProtocol, *, out: Path, networks: Sequence[Path] = (), device: str = "auto"
) -> Path:
    """Run the study of one phase (a CIF file), or what is missing of it, into ``out``; returns it.

    ``networks`` are folders of runs. Orientations are uniform and the same at every level of a seed, so levels are
    compared pattern by pattern. Raises InputError for a phase or a network that cannot be read, or another study.
    """
    phases = read_phases((str(phase),))
    predictors = {path.name: load_model(path, choose_device(device)) for path in networks}
    for name, predictor in predictors.items():
        if predictor.phases != phases:
            raise InputError(f"{name}: was trained on other phases than {phase}; give a network of this phase.")
    key = {
        "protocol": protocol.model_dump(mode="json"),
        "indexes": [{"path": str(phase.resolve()), "sha256": sha256_of(phase)}],
        "tests": [{"path": path.name, "sha256": sha256_of(path / "model.safetensors")} for path in networks],
    }
    _open(out, key)
    seeds, factors = range(protocol.seeds), protocol.levels.items()
    jobs = [(factor, level, seed) for seed in seeds for factor, levels in factors for level in levels]
    for factor, level, seed in tqdm(jobs, desc="conditions", unit="level"):
        path = make_folder(out / "levels") / f"{factor.replace(' ', '-')}_{level:g}_seed{seed}.json"
        with locked(out / "locks" / path.name, wait=False) as mine:
            if mine and not path.is_file():
                found = _judge(phase, phases, protocol, predictors, factor=factor, level=level, seed=seed)
                write_json(path, {"factor": factor, "level": level, "seed": seed, "methods": found})
    return out


def plan_of(protocol: ConditionsProtocol, factor: Factor, level: float, *, seed: int) -> SimulationPlan:
    """The simulation in which one factor is at a level and all others are as usual."""
    now = USUAL | {factor: level}
    weight = now["overlap"]
    instrument = InstrumentModel(
        dose_electrons=(now["dose"], now["dose"]),
        scale_error=(now["scale error"], now["scale error"]),
        ellipse_ratio=None,
        descan_px=None,
    )
    sample = SampleModel(
        thickness_angstrom=(now["thickness"], now["thickness"]),
        mosaic_deg=(now["tilt spread"], now["tilt spread"]),
        overlap_chance=0.0 if weight == 1 else 1.0,
        first_weight=(weight, weight),
        center_shift_px=None,
        instrument=instrument,
    )
    rows, columns = protocol.shape
    geometry = Geometry(
        shape=protocol.shape,
        scale_inv_angstrom=protocol.scale_inv_angstrom,
        center_xy=(columns / 2, rows / 2),
        beam_energy_kev=protocol.beam_energy_kev,
        precession_deg=now["precession"],
    )
    return SimulationPlan(recipe=SimulationRecipe(sample=sample), geometry=geometry, seed=seed, number=protocol.number)


def _judge(
    phase: Path,
    phases: tuple[PhaseRecord, ...],
    protocol: ConditionsProtocol,
    predictors: dict[str, Predictor],
    *,
    factor: Factor,
    level: float,
    seed: int,
) -> dict[str, Any]:
    """Disorientations and speed of every method at one level."""
    plan = plan_of(protocol, factor, level, seed=seed)
    simulator = make_simulator(plan, phases)
    drawn = draw(simulator, np.arange(protocol.number))
    patterns = simulate(simulator, drawn)
    answer, rate = _matched(phase, patterns, plan.geometry)
    found = {MATCHING: {"error_deg": _errors(answer, drawn, phases), "per_s": rate}}
    for name, predictor in predictors.items():
        center, scale = plan.geometry.center_xy, plan.geometry.scale_inv_angstrom
        start = time.perf_counter()
        orientation, _, _ = predictor.predict(patterns, center, scale, n_best=1)
        rate = len(patterns) / (time.perf_counter() - start)
        found[name] = {"error_deg": _errors(orientation[:, 0], drawn, phases), "per_s": rate}
    return found


def _matched(phase: Path, patterns: NDArray[np.uint16], geometry: Geometry) -> tuple[Array, float]:
    """Orientations by template matching, each pattern by itself, and patterns per second without the library."""
    recipe = load_recipe(
        None,
        phases=[str(phase)],
        scan__scale_inv_angstrom=geometry.scale_inv_angstrom,
        scan__center_xy=geometry.center_xy,
        scan__beam_energy_kev=geometry.beam_energy_kev,
        scan__precession_deg=geometry.precession_deg,
        matching__recalibrate=False,
        neighbours__pool=False,
        neighbours__overlap=False,
    )
    scan = hs.signals.Signal2D(patterns.reshape(-1, COLUMNS, *patterns.shape[1:]))
    result = index_scan(scan, recipe)
    return result.orientation.reshape(-1, 4), len(patterns) / max(result.info["seconds"]["matching"], 1e-9)


def _errors(answer: Array, drawn: Drawn, phases: tuple[PhaseRecord, ...]) -> list[float]:
    phase_id = np.zeros(len(answer), np.int16)
    return [float(one) for one in map_errors_deg(answer, phase_id, drawn.orientation, phases=phases)]


def _open(out: Path, key: dict[str, Any]) -> None:
    """Make the folder with its record, or check that it is the same study."""
    if (out / STUDY_FILE).is_file():
        had = read_study(out)
        for part, value in key.items():
            if had[part] != json.loads(json.dumps(value)):
                raise InputError(f"{out}: a study with other {part}: changed since it was started; give another --out.")
        return
    if out.exists() and (not out.is_dir() or any(not path.name.startswith(".") for path in out.iterdir())):
        raise InputError(f"{out}: exists and is not a study; give another --out.")
    created = datetime.now(UTC).isoformat(timespec="seconds")
    record = {"study": "conditions", **key, "created": created, "software": software_versions()}
    write_json(make_folder(out) / STUDY_FILE, record)
