"""Virtual scans: a microstructure as a microscope would record it, written as a calibrated .hspy with its exact truth.

One microscope and one specimen are drawn for the whole scan; every pixel counts its own electrons.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from dpcurate.conditions import Conditions, draw_conditions
from dpcurate.crystal_maps import software_versions
from dpcurate.detector import count, render
from dpcurate.errors import InputError
from dpcurate.microstructure import Microstructure
from dpcurate.scan_files import ScanFiles, written_aside
from dpcurate.schema import PhaseRecord
from dpcurate.simulation_plan import Geometry, SimulationPlan, SimulationRecipe
from dpcurate.simulator import SIMULATED_AT_ONCE, Drawn, Simulator, beams, make_simulator

MOST_ANGSTROM = 1e5
"""Thickness; no electron of a transmission microscope comes through more."""

BLOCK_BYTES = 2**27
"""Of the electrons that are computed at once. With what goes with it a block takes about four times as much."""

ALONG_THE_SCAN = ("thickness_angstrom", "first_weight", "shift_x_px", "shift_y_px", "diffuse_share", "direct_share")
"""Conditions that change from pixel to pixel; all others are one value for the scan."""


def simulate_scan(
    structure: Microstructure,
    phases: Sequence[PhaseRecord],
    recipe: SimulationRecipe,
    geometry: Geometry,
    *,
    seed: int,
    out: Path,
    step_nm: float = 10.0,
    overwrite: bool = False,
    device: str = "cpu",
    origin: Mapping[str, Any] | None = None,
    at_once: int = SIMULATED_AT_ONCE,
) -> Path:
    """Write a virtual scan and return its path; beside it ``NAME.truth.npz`` and ``NAME.simulation.json``.

    The pattern of a pixel is weight * first + (1 - weight) * second grain, each as it would be alone. What is no
    crystal lets the beam straight through. The file does not say where the direct beam is.

    Parameters
    ----------
    structure, phases
        The specimen; its ``phase_id`` counts in ``phases``.
    recipe
        Theory, and ranges for sample and instrument; see `scan_conditions` for what becomes of them. Orientations,
        thickness and overlap are the specimen's.
    geometry, step_nm
        Detector and beam, and the distance of scan pixels.
    seed
        Decides conditions and counts. The same seed gives the same scan.
    out
        A .hspy file. Everything is written aside under names with ``.partial`` and renamed, the scan last.
    overwrite
        Replace a scan that is there, with what lies beside it.
    device
        Where patterns are computed.
    origin
        How the specimen was made, for ``NAME.simulation.json``.
    at_once
        Patterns of a block at most; decides memory, never the result.

    Raises
    ------
    InputError
        If something is there already, the specimen is too thick, a cell too large, or the disk is full.
    """
    if not structure.thickness_angstrom.max() <= MOST_ANGSTROM:
        raise InputError(
            f"thickness {structure.thickness_angstrom.max():g} Å: at most {MOST_ANGSTROM:g} is simulated. Lower it."
        )
    own = _of_specimen(recipe, structure)
    plan = SimulationPlan(recipe=own, geometry=geometry, seed=seed, number=structure.weight.size)
    simulator = make_simulator(plan, phases, device=device)
    conditions = scan_conditions(structure, recipe, seed=seed)
    with written_aside(Path(out), overwrite=overwrite) as files:
        files.save_record(_record(plan, phases, conditions, step_nm=step_nm, origin=origin))
        files.save_truth({**vars(structure), "center_xy": _centers(structure, conditions, geometry)})
        title = f"{', '.join(phase.name for phase in phases)}, simulated (dpcurate {version('dpcurate')})"
        files.save_empty_scan(structure.shape, geometry, step_nm=step_nm, title=title)
        _fill(files, simulator, structure, conditions, at_once=at_once)
    return Path(out)


def scan_conditions(structure: Microstructure, recipe: SimulationRecipe, *, seed: int) -> Conditions:
    """Conditions of all pixels of a scan, row by row, on the CPU: one draw from the recipe's ranges for the whole scan.

    The ranges are those of many scans. Within one, the instrument is the same, and so are the tilts inside the probe,
    the shape of the background, the amorphous layer and the misplaced centre: they belong to instrument or specimen.
    The centre drifts over the scan by the instrument's descan. Thickness and weight are the specimen's. What is drawn
    for direct beam and background holds at the scan's mean thickness t; elsewhere what is not scattered (all but the
    background; the direct beam in kinematical theory) falls off as exp(-thickness), so that its share s becomes
    s^(thickness / t).
    """
    thickness = torch.as_tensor(structure.thickness_angstrom.ravel(), dtype=torch.float32)
    row, column = np.indices(structure.shape).reshape(2, -1)
    place = np.stack([column, row], axis=1)
    last = np.maximum(np.array(structure.shape[::-1]) - 1, 1)
    position = torch.as_tensor(place / last, dtype=torch.float32)
    drawn = draw_conditions(torch.zeros(len(place), dtype=torch.int64), recipe.sample, seed=seed, position=position)
    depth, beside_ring = thickness / thickness.mean(), 1 - drawn.ring_share
    return replace(
        drawn,
        thickness_angstrom=thickness,
        first_weight=torch.as_tensor(structure.weight.ravel(), dtype=torch.float32),
        diffuse_share=beside_ring * (1 - (1 - drawn.diffuse_share / beside_ring).clamp(min=0) ** depth),
        direct_share=drawn.direct_share**depth,
    )


def expected_electrons(simulator: Simulator, drawn: Drawn) -> Tensor:
    """Expected electrons of n pixels, shape (n, rows, columns): each grain alone, added with their weights."""
    weight = drawn.conditions.first_weight.to(simulator.device)[:, None, None]
    image = _of_one_grain(simulator, drawn)
    shared = np.flatnonzero(drawn.weight < 1)
    if len(shared):
        rows = torch.as_tensor(shared)
        second = Drawn(
            index=drawn.index[shared],
            phase_id=drawn.phase2_id[shared],
            orientation=drawn.orientation2[shared],
            phase2_id=drawn.phase2_id[shared],
            orientation2=drawn.orientation2[shared],
            conditions=drawn.conditions[rows],
        )
        rows = rows.to(simulator.device)
        image[rows] = weight[rows] * image[rows] + (1 - weight[rows]) * _of_one_grain(simulator, second)
    return image


def _of_one_grain(simulator: Simulator, drawn: Drawn) -> Tensor:
    """Expected electrons where the first grain is all there is; without crystal (phase -1) the direct beam is all."""
    geometry = simulator.plan.geometry
    conditions = replace(drawn.conditions, first_weight=torch.ones_like(drawn.conditions.first_weight))
    q, intensity, direct = beams(simulator, replace(drawn, conditions=conditions))
    if direct is not None:
        direct = torch.where(torch.as_tensor(drawn.phase_id < 0, device=simulator.device), 1.0, direct)
    return render(
        q,
        intensity,
        conditions.to(simulator.device),
        direct=direct,
        scale_inv_angstrom=geometry.scale_inv_angstrom,
        center_xy=geometry.center_xy,
        beam_energy_kev=geometry.beam_energy_kev,
        shape=geometry.shape,
    )


def drawn_pixels(structure: Microstructure, conditions: Conditions, pixels: NDArray[np.int64]) -> Drawn:
    """Labels and conditions of pixels (n,), counted along the rows."""
    return Drawn(
        index=pixels,
        phase_id=structure.phase_id.ravel()[pixels],
        orientation=structure.quat.reshape(-1, 4)[pixels],
        phase2_id=structure.phase2_id.ravel()[pixels],
        orientation2=structure.quat2.reshape(-1, 4)[pixels],
        conditions=conditions[torch.as_tensor(pixels)],
    )


def _of_specimen(recipe: SimulationRecipe, structure: Microstructure) -> SimulationRecipe:
    """The recipe with the specimen's own range of thickness, which decides the steps of the precession."""
    limits = float(structure.thickness_angstrom.min()), float(structure.thickness_angstrom.max())
    sample = recipe.sample.model_copy(update={"thickness_angstrom": limits})
    return recipe.model_copy(update={"orientations": "uniform", "sample": sample})


def _fill(
    files: ScanFiles, simulator: Simulator, structure: Microstructure, conditions: Conditions, *, at_once: int
) -> None:
    """Simulate a scan block by block into its file, with progress."""
    shape = simulator.plan.geometry.shape
    pixels = np.arange(structure.weight.size).reshape(structure.shape)
    most = max(1, min(at_once, BLOCK_BYTES // (4 * shape[0] * shape[1])))
    with tqdm(total=pixels.size, desc="simulate", unit="pattern", smoothing=0.1) as bar:
        for block in _blocks(structure.shape, most):
            here = pixels[block]
            drawn = drawn_pixels(structure, conditions, here.ravel())
            counts = count(
                expected_electrons(simulator, drawn),
                drawn.conditions.to(simulator.device),
                torch.as_tensor(drawn.index, device=simulator.device),
                seed=simulator.plan.seed,
            )
            files.save_block(block, counts.cpu().numpy().reshape(*here.shape, *shape))
            bar.update(here.size)


def _centers(structure: Microstructure, conditions: Conditions, geometry: Geometry) -> NDArray[np.float32]:
    """Where the direct beam of each pattern is (column, row), pixels of the detector, shape (rows, columns, 2)."""
    shift = torch.stack([conditions.shift_x_px, conditions.shift_y_px], dim=1).numpy()
    return (np.array(geometry.center_xy) + shift).astype(np.float32).reshape(*structure.shape, 2)


def _record(
    plan: SimulationPlan,
    phases: Sequence[PhaseRecord],
    conditions: Conditions,
    *,
    step_nm: float,
    origin: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """All that decided a scan, and the conditions that were drawn for it."""
    drawn = {name: column[0].item() for name, column in conditions.as_columns().items() if name not in ALONG_THE_SCAN}
    return {
        **plan.model_dump(mode="json"),
        "step_nm": step_nm,
        "phases": [phase.model_dump(mode="json") for phase in phases],
        "specimen": dict(origin or {}),
        "conditions": drawn,
        "software": {**software_versions(), "torch": version("torch")},
    }


def _blocks(shape: tuple[int, int], most: int) -> Iterator[tuple[slice, slice]]:
    """Blocks of at most so many pixels, whole rows where they are short enough."""
    width, height = min(shape[1], most), max(1, most // shape[1])
    for top in range(0, shape[0], height):
        for left in range(0, shape[1], width):
            yield slice(top, min(top + height, shape[0])), slice(left, min(left + width, shape[1]))
