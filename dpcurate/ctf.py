"""Channel Text Files (.ctf) for MTEX, AZtec and ASTAR users; columns as ASTAR Index fills them."""

from importlib.metadata import version
from pathlib import Path

import numpy as np

from dpcurate.crystal_maps import IndexResult
from dpcurate.file_frames import euler_deg, to_file
from dpcurate.schema import PhaseRecord

LAUE_NUMBERS = {
    name: number + 1
    for number, name in enumerate(("-1", "2/m", "mmm", "4/m", "4/mmm", "-3", "-3m", "6/m", "6/mmm", "m-3", "m-3m"))
}
"""Number of each Laue group, as MTEX and orix read them."""

COLUMNS = ("Phase", "X", "Y", "Bands", "Error", "Euler1", "Euler2", "Euler3", "MAD", "BC", "BS")

FORMAT = ("%d", "%.8f", "%.8f", "%d", "%d", "%.5f", "%.5f", "%.5f", "%.4f", "%d", "%d")
"""Step in micrometres to 1e-5 nm, angles to 1e-5 degrees."""

BANDS, NO_SOLUTION = 6, 3
"""What ASTAR writes for an indexed pixel, and the error code of one that is not."""

BYTE = 255
"""BC and BS are whole numbers of one byte."""


def write_ctf(result: IndexResult, path: Path) -> None:
    """Write the labels of a result; InputError for phases that the format cannot hold.

    Euler angles are Bunge's, in degrees, in the crystal frame of the format (x along a*, z along c) and the scan's
    frame, the same as that of X and Y in micrometres: X to the right, Y down. MAD is the reliability (R/100 of ASTAR),
    BC the correlation and BS the confidence, times 255. Not indexed: phase 0, error 3.
    """
    rows, columns = result.shape
    step_um = float(result.info["calibration"]["step_nm"]) / 1000
    indexed = (result.phase_id >= 0).ravel()
    y, x = np.mgrid[:rows, :columns].reshape(2, -1) * step_um
    euler = euler_deg(to_file(result.orientation, result.phase_id, result.phases, "ctf")).reshape(-1, 3)
    numbers = [
        result.phase_id.ravel() + 1,
        *(x, y),
        np.where(indexed, BANDS, 0),
        np.where(indexed, 0, NO_SOLUTION),
        *np.where(indexed[:, None], euler, 0).T,
        np.where(indexed, np.nan_to_num(result.reliability.ravel()), 0),
        *[np.where(indexed, _byte(values), 0) for values in (result.correlation.ravel(), result.confidence.ravel())],
    ]
    with path.open("w", encoding="utf-8", newline="\r\n") as file:
        file.write("\n".join(_header(result, step_um)) + "\n")
        np.savetxt(file, np.column_stack(numbers), fmt="\t".join(FORMAT))


def _header(result: IndexResult, step_um: float) -> list[str]:
    """The lines before the numbers."""
    rows, columns = result.shape
    energy = float(result.info["calibration"]["beam_energy_kev"])
    return [
        "Channel Text File",
        f"Prj\t{Path(result.info['scan']['path'] or 'scan').stem}",
        f"Author\tdpcurate {version('dpcurate')}",
        "JobMode\tGrid",
        f"XCells\t{columns}",
        f"YCells\t{rows}",
        f"XStep\t{step_um:.8f}",
        f"YStep\t{step_um:.8f}",
        "AcqE1\t0",
        "AcqE2\t0",
        "AcqE3\t0",
        "Euler angles refer to Sample Coordinate system (CS0)!\t"
        f"Mag\t0\tCoverage\t100\tDevice\t0\tKV\t{energy:g}\tTiltAngle\t0\tTiltAxis\t0",
        f"Phases\t{len(result.phases)}",
        *[_phase_line(phase) for phase in result.phases],
        "\t".join(COLUMNS),
    ]


def _phase_line(phase: PhaseRecord) -> str:
    """Cell, name, Laue group and space group of a phase."""
    lengths, angles = (";".join(f"{value:.6g}" for value in part) for part in (phase.lattice[:3], phase.lattice[3:]))
    name = " ".join(phase.name.split())
    return f"{lengths}\t{angles}\t{name}\t{LAUE_NUMBERS[phase.point_group]}\t{phase.space_group}\t\t\tdpcurate"


def _byte(values: np.ndarray) -> np.ndarray:
    """Numbers from 0 to 1 as whole numbers from 0 to 255; NaN, a score that is not defined, as 0."""
    return np.rint(BYTE * np.clip(np.nan_to_num(values), 0, 1))
