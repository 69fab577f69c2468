"""What decides every pattern of a simulation: theory, orientations, sample and instrument, detector, seed, number."""

from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from dpcurate.conditions import SampleModel
from dpcurate.orientation_sampling import Component, Fibre
from dpcurate.schema import Record

Quaternion = tuple[float, float, float, float]


class Geometry(Record):
    """Where the detector is, and under which beam."""

    shape: tuple[int, int] = Field(description="rows and columns of the detector, pixels")
    scale_inv_angstrom: float = Field(gt=0, description="1/Angstrom per pixel")
    center_xy: tuple[float, float] = Field(description="nominal place of the direct beam (column, row), pixels")
    beam_energy_kev: float = Field(gt=0)
    precession_deg: float = Field(0.0, ge=0, lt=10, description="half-angle of the precession cone")

    def reach_inv_angstrom(self) -> float:
        """Distance from the direct beam to the farthest corner."""
        x, y = self.center_xy
        return self.scale_inv_angstrom * float(np.hypot(max(x, self.shape[1] - x), max(y, self.shape[0] - y)))


class SimulationRecipe(Record):
    """How patterns are simulated: the section `simulation` of the recipe."""

    physics: Literal["dynamical", "kinematical"] = Field("dynamical", description="Bloch waves, or single scattering")
    orientations: Literal["uniform", "around", "texture"] = Field(
        "uniform", description="over the symmetry zone, around those of an index, or of the texture below"
    )
    spread_deg: float = Field(2.0, ge=0, le=60, description="standard deviation about each axis, for `around`")
    uniform_share: float | None = Field(
        None,
        ge=0,
        le=1,
        description="for `around`: how many are uniform instead; default: 0, like an index 0.5",
    )
    texture: tuple[Component | Fibre, ...] = ()
    k_max_inv_angstrom: float | None = Field(None, gt=0, description="default: the frame's corners, at most 1.5")
    max_excitation_error: float = Field(0.03, gt=0, le=0.2, description="1/Angstrom; beams farther off are left out")
    n_azimuths: int | None = Field(
        None, ge=4, le=512, description="steps of the precession in dynamical theory; default: enough for the thickness"
    )
    absorption: float = Field(0.0, ge=0, le=0.5, description="imaginary over real part of the potential")
    u_iso_angstrom2: float | None = Field(None, ge=0, le=0.2, description="of all atoms; default: the CIF's, or 0.006")
    sample: SampleModel = SampleModel()

    @model_validator(mode="after")
    def _texture_has_parts(self) -> "SimulationRecipe":
        if self.orientations == "texture" and not self.texture:
            raise ValueError("orientations = 'texture' needs at least one part in simulation.texture")
        return self


class SimulationPlan(Record):
    """What decides every pattern of a simulation, besides the phases and the orientations to simulate around."""

    recipe: SimulationRecipe
    geometry: Geometry
    seed: int = Field(ge=0, lt=2**31)
    number: int = Field(ge=1, description="patterns that belong together; later ones are fresh")
    parents: tuple[tuple[Quaternion, ...], ...] = Field(
        (), description="of each phase, orientations to simulate around; none: those of the dataset's training labels"
    )
