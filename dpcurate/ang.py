"""EDAX/TSL .ang files: labels for OIM Analysis, MTEX, DREAM.3D and orix.

orix 0.15 can write them too, but with places to 1e-5 micrometres, which bends the grid of a nanometre step, and with
its own frame for monoclinic phases.
"""

from importlib.metadata import version
from pathlib import Path

import numpy as np

from dpcurate.crystal_maps import IndexResult
from dpcurate.errors import InputError
from dpcurate.file_frames import euler_deg, to_file
from dpcurate.schema import PhaseRecord

SYMMETRIES = {
    "-1": "1",
    "mmm": "22",
    "4/m": "4",
    "4/mmm": "42",
    "-3": "3",
    "-3m": "32",
    "6/m": "6",
    "6/mmm": "62",
    "m-3": "23",
    "m-3m": "43",
}
"""TSL's name of each Laue group, as orix 0.15 and MTEX read them. 2/m is 20 with the two-fold axis along b, else 2."""

FORMAT = ("%9.6f", "%9.6f", "%9.6f", "%.8f", "%.8f", "%.5f", "%.5f", "%d", "%.5f", "%.5f")
"""Angles in radians, step in micrometres to 1e-5 nm."""

NOT_INDEXED = {"euler": 12.56637, "confidence": -1.0, "fit": 180.0}
"""What TSL and orix write for a pixel without a solution. Angles of 4 pi, rounded down: beyond it orix warns."""


def write_ang(result: IndexResult, path: Path) -> None:
    """Write the labels of a result; InputError for phases that the format cannot hold.

    Euler angles are Bunge's, in radians, in the crystal frame of the format (x along a; monoclinic: x along a*, z along
    c) and the scan's frame, the same as that of x and y in micrometres. Image quality is the correlation, confidence
    index the confidence, detector signal the reliability; fit is not defined and 0.
    """
    rows, columns = result.shape
    step_um = float(result.info["calibration"]["step_nm"]) / 1000
    indexed = (result.phase_id >= 0).ravel()
    y, x = np.mgrid[:rows, :columns].reshape(2, -1) * step_um
    euler = np.radians(euler_deg(to_file(result.orientation, result.phase_id, result.phases, "ang")).reshape(-1, 3))
    scores = [np.nan_to_num(values.ravel()) for values in (result.correlation, result.confidence, result.reliability)]
    numbers = [
        *np.where(indexed[:, None], euler, NOT_INDEXED["euler"]).T,
        *(x, y),
        np.where(indexed, scores[0], 0),
        np.where(indexed, scores[1], NOT_INDEXED["confidence"]),
        result.phase_id.ravel() + 1,
        np.where(indexed, scores[2], 0),
        np.where(indexed, 0, NOT_INDEXED["fit"]),
    ]
    with path.open("w", encoding="utf-8") as file:
        file.write("".join(f"# {line}\n".replace("# \n", "#\n") for line in _header(result, step_um)))
        np.savetxt(file, np.column_stack(numbers), fmt="  ".join(FORMAT))


def _header(result: IndexResult, step_um: float) -> list[str]:
    """The lines before the numbers."""
    rows, columns = result.shape
    phases = [line for k, phase in reversed(list(enumerate(result.phases))) for line in _phase_lines(phase, k + 1)]
    return [
        "TEM_PIXperUM          1.000000",
        *(f"{name}                0.000000" for name in ("x-star", "y-star", "z-star")),
        "WorkingDistance       0.000000",
        "",
        *phases,
        "GRID: SqrGrid",
        f"XSTEP: {step_um:.8f}",
        f"YSTEP: {step_um:.8f}",
        f"NCOLS_ODD: {columns}",
        f"NCOLS_EVEN: {columns}",
        f"NROWS: {rows}",
        "",
        f"OPERATOR: dpcurate {version('dpcurate')}",
        "",
        "SAMPLEID:",
        "",
        "SCANID:",
        "",
    ]


def _phase_lines(phase: PhaseRecord, number: int) -> list[str]:
    """Name, symmetry and cell of a phase."""
    name = " ".join(phase.name.split())
    return [
        f"Phase {number}",
        f"MaterialName  {name}",
        f"Formula  {name}",
        "Info",
        f"Symmetry  {_symmetry(phase)}",
        "LatticeConstants  " + "  ".join(f"{value:.5f}" for value in phase.lattice),
        "NumberFamilies  0",
        "",
    ]


def _symmetry(phase: PhaseRecord) -> str:
    """TSL's name of the Laue group."""
    if phase.point_group != "2/m":
        return SYMMETRIES[phase.point_group]
    axis = np.abs(phase.proper_rotations()[:, 1:]).max(axis=0).argmax()
    if axis == 0:
        raise InputError(
            f"phase {phase.name}: its two-fold axis is a, and .ang files know b and c only. Export as ctf or h5."
        )
    return ("20", "2")[axis - 1]
