"""The recipe of commands that simulate: that of indexing, and the sections `simulation` and `virtual_scan`."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from dpcurate.calibration import MAX_ANGLE_RAD
from dpcurate.errors import InputError
from dpcurate.grain_maps import from_orientation_map
from dpcurate.grain_orientations import GrainModel
from dpcurate.microstructure import Microstructure, Specimen, voronoi
from dpcurate.orientation_sampling import texture
from dpcurate.recipe import Recipe
from dpcurate.reflections import wavelength_angstrom
from dpcurate.schema import PhaseRecord, Record
from dpcurate.simulation_plan import Geometry, SimulationRecipe

USUAL_SCALE_INV_ANGSTROM, USUAL_BEAM_KEV, USUAL_PRECESSION_DEG, USUAL_STEP_NM = 0.021, 200.0, 0.7, 10.0
"""Of a virtual microscope about which nothing is said: near those of the demonstration scan."""

USUAL_SIDE = 64
"""Rows and columns of a scan of random grains."""

NO_SYMMETRY = np.array([[1.0, 0, 0, 0]])
"""Textures say where crystals lie; which of the equivalent orientations describes a grain makes no difference."""


class VirtualScanRecipe(Record):
    """The specimen of a virtual scan and how much of it is seen: the section `virtual_scan` of the recipe."""

    rows: int | None = Field(None, ge=2, description="default: 64, or as many as the microstructure file has")
    columns: int | None = Field(None, ge=2, description="as rows")
    pixels: int = Field(128, ge=16, le=4096, description="of the detector, along each side")
    n_grains: int = Field(36, ge=1, description="random (Voronoi) grains, where no file is given")
    microstructure: str | None = Field(None, description="orientation map that orix reads; relative to the recipe")
    phase_names: tuple[str, ...] | None = Field(None, description="what the phases are called in that file")
    crop: tuple[int, int, int, int] | None = Field(None, description="first row, end row, first column, end column")
    not_indexed: Literal["fill", "empty"] = Field("fill", description="such pixels of the file: grain or hole")
    grain_model: GrainModel = GrainModel()
    specimen: Specimen = Specimen()


class SimulatingRecipe(Recipe):
    """Everything that decides what is simulated; of the rest, `phases`, `scan` and `grains` matter."""

    simulation: SimulationRecipe = SimulationRecipe()
    virtual_scan: VirtualScanRecipe = VirtualScanRecipe()


def geometry_of(recipe: SimulatingRecipe) -> Geometry:
    """Detector and beam of a virtual scan: the section `scan`, and what is usual where that says nothing.

    Raises InputError when the detector would reach to angles that no detector of a diffraction scan reaches.
    """
    scan, side = recipe.scan, recipe.virtual_scan.pixels
    geometry = Geometry(
        shape=(side, side),
        scale_inv_angstrom=scan.scale_inv_angstrom or USUAL_SCALE_INV_ANGSTROM,
        center_xy=scan.center_xy or (side / 2, side / 2),
        beam_energy_kev=scan.beam_energy_kev or USUAL_BEAM_KEV,
        precession_deg=USUAL_PRECESSION_DEG if scan.precession_deg is None else scan.precession_deg,
    )
    angle = side / 2 * geometry.scale_inv_angstrom * wavelength_angstrom(geometry.beam_energy_kev)
    if not angle <= MAX_ANGLE_RAD:
        raise InputError(
            f"--scale {geometry.scale_inv_angstrom:g}: {side} pixels of it at {geometry.beam_energy_kev:g} keV put the "
            f"detector's edge at {angle:.2g} rad, over {MAX_ANGLE_RAD}. Give a smaller scale (1/Å a pixel)."
        )
    if not all(0 <= place < side for place in geometry.center_xy):
        raise InputError(
            f"scan.center_xy {geometry.center_xy}: outside the detector of {side} x {side} pixels. Give a place on it."
        )
    return geometry


def microstructure_of(recipe: SimulatingRecipe, phases: Sequence[PhaseRecord], *, seed: int) -> Microstructure:
    """The specimen of a virtual scan: a measured map, or random grains; the seed decides all that is random.

    Raises InputError for no phase, a map or a polycrystal that cannot be used, and orientations around an index.
    """
    wanted, simulation = recipe.virtual_scan, recipe.simulation
    if not phases:
        raise InputError("no phase given. A phase is a CIF file: give one with --phase, or list it in the recipe.")
    if wanted.microstructure is not None:
        return _of_file(recipe, phases, seed=seed)
    if simulation.orientations == "around":
        raise InputError("simulation.orientations = 'around': a virtual scan has no index. Use 'uniform' or 'texture'.")
    orientations = None
    if simulation.orientations == "texture":
        orientations = texture(simulation.texture, np.arange(wanted.n_grains), NO_SYMMETRY, seed=seed)
    return voronoi(
        (wanted.rows or USUAL_SIDE, wanted.columns or USUAL_SIDE),
        n_grains=wanted.n_grains,
        phases=phases,
        seed=seed,
        orientations=orientations,
        grains=wanted.grain_model,
        specimen=wanted.specimen,
    )


def _of_file(recipe: SimulatingRecipe, phases: Sequence[PhaseRecord], *, seed: int) -> Microstructure:
    """The specimen that a file describes."""
    wanted = recipe.virtual_scan
    if (wanted.rows is None) != (wanted.columns is None):
        raise InputError("--rows and --columns go together where the microstructure is a file: give both or neither.")
    return from_orientation_map(
        str(wanted.microstructure),
        phases=phases,
        phase_names=wanted.phase_names,
        crop=wanted.crop,
        shape=None if wanted.rows is None or wanted.columns is None else (wanted.rows, wanted.columns),
        boundary_deg=recipe.grains.boundary_deg,
        min_pixels=recipe.grains.min_pixels,
        not_indexed=wanted.not_indexed,
        specimen=wanted.specimen,
        seed=seed,
    )
