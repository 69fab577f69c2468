"""What a dataset says about itself: frozen, strict records shared by curation and training.

Needs numpy and pydantic only.
"""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

FORMAT_VERSION = 2
"""Raise it when a reader of the old layout would misread the new one."""

SPLITS = ("train", "validation", "test")
"""Names of the values 0, 1, 2 of the array ``split``."""


class Record(BaseModel):
    """A frozen record that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Atom(Record):
    """One atom of the whole unit cell, fractional coordinates."""

    element: str
    x: float
    y: float
    z: float
    occupancy: float = 1.0
    u_iso_angstrom2: float = 0.0


class ScatteringFactor(Record):
    """Electron scattering factor of an element: five pairs a, b of Lobato & Van Dyck 2014, Angstrom and Angstrom^2."""

    element: str
    terms: tuple[float, ...] = Field(min_length=10, max_length=10)


class PhaseRecord(Record):
    """A crystal phase: cell, all its atoms, and the proper rotations of its Laue group in the crystal frame."""

    name: str
    space_group: int = Field(ge=1, le=230)
    point_group: str = Field(description="orix's name of the Laue group, such as -3m")
    lattice: tuple[float, float, float, float, float, float] = Field(description="a, b, c in Angstrom, then degrees")
    atoms: tuple[Atom, ...]
    symmetry: tuple[tuple[float, float, float, float], ...]
    scattering: tuple[ScatteringFactor, ...] = Field((), description="of each element")

    def proper_rotations(self) -> NDArray[np.float64]:
        """Proper rotations of the Laue group, quaternions of shape ``(n_symmetry, 4)``."""
        return np.array(self.symmetry, float)


class Shard(Record):
    """One file of an array, with what proves it undamaged."""

    file: str
    bytes: int
    sha256: str


class ArrayRecord(Record):
    """One array of a dataset; ``files`` holds every file below its folder, metadata included."""

    dtype: str
    shape: tuple[int, ...]
    files: tuple[Shard, ...]


class Source(Record):
    """Where patterns came from: a scan through its index, or a simulation."""

    kind: Literal["scan", "simulated"]
    index_path: str | None = None
    index_sha256: str | None = None
    scan_path: str | None = None
    scan_sha256: str | None = None
    note: str = ""


class Label(Record):
    """How one label array is laid out: one row for each pattern, in it ``parts`` (none: a single number)."""

    dtype: str
    meaning: str
    parts: tuple[str, ...] = ()
    unit: str = ""

    def shape(self, n: int) -> tuple[int, ...]:
        """Shape of the whole array for ``n`` patterns."""
        return (n, len(self.parts)) if self.parts else (n,)


QUATERNION = ("w", "x", "y", "z")

CONDITIONS = (
    *("instrument", "dose_electrons", "thickness_angstrom", "mosaic_deg", "first_weight", "direct_share"),
    *("inelastic_share", "inelastic_sigma_px", "diffuse_share", "diffuse_width_inv_angstrom", "diffuse_core_share"),
    *("diffuse_core_width_inv_angstrom", "ring_share", "ring_radius_inv_angstrom", "ring_width_inv_angstrom"),
    *("shift_x_px", "shift_y_px", "scale_error", "ellipse_ratio", "ellipse_angle_deg", "spot_sigma_px"),
    *("convergence_mrad", "point_spread_sigma_px", "beam_stop_radius_px", "gain_counts_per_electron"),
    *("readout_noise_counts", "hot_fraction", "hot_electrons", "dead_fraction"),
)
"""What a simulated pattern was taken under, in the order of ``conditions.Conditions``, which says what each means."""

LABELS: dict[str, Label] = {
    "orientation": Label(dtype="float64", parts=QUATERNION, meaning="the label, unit quaternion, lab to crystal"),
    "phase_id": Label(dtype="int16", meaning="index into the manifest's phases"),
    "confidence": Label(dtype="float32", meaning="trust in the label, 0 to 1; simulated: 1"),
    "correlation": Label(dtype="float32", meaning="score of the label; simulated: NaN"),
    "reliability": Label(dtype="float32", meaning="distance to the next different candidate; simulated: NaN"),
    "agreement": Label(dtype="float32", meaning="agreement with the neighbours; simulated: NaN"),
    "grain_id": Label(dtype="int32", meaning="grain in its own scan's index; simulated: -1"),
    "split": Label(dtype="uint8", meaning="0 train, 1 validation, 2 test"),
    "source": Label(dtype="int16", meaning="index into the manifest's sources"),
    "pixel": Label(dtype="int32", parts=("row", "column"), meaning="place in the scan; simulated: -1"),
    "center_xy": Label(dtype="float32", parts=("column", "row"), unit="pixel", meaning="the direct beam"),
    "scale": Label(dtype="float32", unit="1/Angstrom per pixel", meaning="q_x = (column - center) * scale"),
    "true_orientation": Label(dtype="float64", parts=QUATERNION, meaning="exact orientation; NaN where unknown"),
    "true_orientation2": Label(
        dtype="float64", parts=QUATERNION, meaning="of the second grain in the probe; of a single one, again the first"
    ),
    "true_phase2_id": Label(dtype="int16", meaning="phase of the second grain; -1 where unknown"),
    "true_grain": Label(dtype="int32", meaning="exact grain; -1 where unknown"),
    "true_weight": Label(dtype="float32", meaning="exact share of the true grain, 1 inside it; NaN where unknown"),
    "draw": Label(dtype="int64", meaning="number of the sample among those of the manifest's simulation; scans: -1"),
    "conditions": Label(dtype="float32", parts=CONDITIONS, meaning="what a pattern was simulated under; scans: NaN"),
}
"""Every array of a dataset but ``patterns``."""

PATTERN_DTYPES = ("uint8", "uint16", "uint32", "float32")
"""What the array ``patterns``, axes (pattern, row, column), may hold."""


class Description(Record):
    """What whoever builds a dataset knows of it; the store adds the rest and makes the manifest of it."""

    beam_energy_kev: float
    precession_deg: float
    phases: tuple[PhaseRecord, ...]
    sources: tuple[Source, ...]
    counts: dict[str, int]
    recipe: dict[str, object]
    simulation: dict[str, Any] | None = Field(None, description="a `simulator.SimulationPlan`: makes more of the same")
    software: dict[str, str]


class SplitLeak(Record):
    """What the patterns of scans in one split share with training."""

    patterns: int
    same_grain: int = Field(description="their grain is trained on")
    touching: int = Field(description="one of their eight neighbours in the scan is trained on")
    identical: int = Field(description="every count is that of a training pattern")
    judged: int = Field(description="as many of them, drawn at random, are compared with training patterns")
    near_duplicates: int = Field(description="of the judged: a training pattern is as similar as the manifest says")
    look_alikes: int = Field(description="of these: the most similar training pattern has a label over 10 degrees away")


class Leak(Record):
    """How much validation and test share with training, measured when the dataset was built; see ``leaks``."""

    similarity: float | None = Field(description="of near-duplicates: median of neighbours in a grain; null: none")
    pairs: int = Field(description="such neighbours that were compared")
    training: int = Field(description="training patterns that were compared with")
    training_patterns: int
    splits: dict[str, SplitLeak]


class Manifest(Description):
    """The last file written of a dataset: names every file with size and hash."""

    format_version: int = FORMAT_VERSION
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    version: str
    created: str = Field(
        pattern=r"^[0-9]{4}(-[0-9]{2}){2}T[0-9]{2}(:[0-9]{2}){2}", description="ISO 8601, UTC, with microseconds"
    )
    n_patterns: int
    patterns_per_shard: int = Field(1024, ge=1, description="patterns in a file; labels have 64 times as many")
    arrays: dict[str, ArrayRecord]
    leak: Leak | None = Field(None, description="what splits share; null where no pattern is of a scan")
    documents: tuple[Shard, ...] = Field((), description="files for readers: cards and metadata")
