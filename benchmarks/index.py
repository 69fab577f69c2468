"""Index the same patterns with dpcurate, pyxem (documented and tuned) and py4DSTEM: accuracy, failures, speed, memory.

Example: python benchmarks/index.py --scans scans --out results --py4dstem-python py4dstem_env/bin/python
The folder holds scan_NAME.hspy with their truth, from benchmarks/convert_scan.py (dev, large) and
benchmarks/index_scans.py (all others). Shares are over every second pixel along both axes (`--every`), the same ones
for all; dpcurate indexes the whole scan. Writes index.md, index.csv, and of each scan a picture and the answers
(.npz: for each method four columns of quaternion and one of phase). py4DSTEM runs in an environment of its own
(py4dstem, pymatgen, ase, numpy below 2) and is left out where none is given. pyxem sets its polar transform up anew in
each call, which weighs on few patterns; rounds of dpcurate and pyxem on the whole first scan tell the ratio of speeds.
`--quick` takes scan_dev alone, every fourth pixel, one round. One scan: `--scan scan.hspy --phase LiNiO2.cif`.
"""

import argparse
import csv
import os
import platform
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from failure_classes import CLASSES, WITHIN_DEG, failure_classes
from grains_back import grains_back
from index_figures import draw
from index_methods import Found, by_dpcurate, by_peer, write_job
from index_tables import accuracy_table, failure_table, grain_table, speed_table

from dpcurate.orientations import disorientation_deg
from dpcurate.phases import read_cif
from dpcurate.schema import PhaseRecord
from dpcurate.truth import Truth, read_truth

PHASES = Path(__file__).parents[1] / "datasets" / "phases"
SCANS = {
    "dev": ("LiNiO2",),
    "large": ("LiNiO2",),
    "precession": ("LiNiO2",),
    "wedge": ("LiNiO2",),
    "olivine": ("LiFePO4",),
    "steel": ("Fe-fcc", "Fe-bcc"),
}
"""Scans and the CIF files of their phases, in the order of the truth's ``phase_id``."""

SPACING_DEG = 2.0

PYXEM = {"pyxem, documented": {"tuned": False}, "pyxem, tuned": {"tuned": True, "max_excitation_error": 0.01}}
PY4DSTEM = {
    "py4DSTEM": {
        "corr_kernel_size": 0.04,
        "power_radial": 0.5,
        "finder": "disks",
        "blur_px": 0.5,
        "least_counts": 0.05,
    }
}
"""The best settings of each peer, found on scan_dev: docs/results/indexing.md says among which."""

ALIKE = 1 - 1e-7
"""Scalar product of quaternions that are one orientation."""

ROUNDS = 3
"""In which dpcurate and pyxem take turns, for the speed."""


@dataclass(frozen=True)
class Case:
    """One scan with its truth, and the pixels that are compared, along the rows."""

    name: str
    path: Path
    cifs: list[Path]
    phases: list[PhaseRecord]
    truth: Truth
    every: int
    engine: str

    def at(self, maps: np.ndarray) -> np.ndarray:
        """Values of the pixels that are compared, from maps (rows, columns, ...) or rows of them."""
        full = maps.reshape(*self.truth.weight.shape, *maps.shape[2:])
        chosen = full[:: self.every, :: self.every]
        return chosen.reshape(-1, *chosen.shape[2:])

    def error_deg(self, orientation: np.ndarray, phase_id: np.ndarray) -> np.ndarray:
        """Angle between found and true orientation, (n,); 180 where the phase is another or there is none."""
        error = np.full(len(orientation), 180.0)
        truth, true_phase = self.at(self.truth.quat), self.at(self.truth.phase_id)
        for number, phase in enumerate(self.phases):
            here = (phase_id == number) & (true_phase == number)
            error[here] = disorientation_deg(orientation[here], truth[here], phase.proper_rotations())
        return error

    def classes(self, orientation: np.ndarray, phase_id: np.ndarray) -> np.ndarray:
        """Index into `CLASSES` of each pixel, (n,)."""
        truth = self.truth
        first, second = (self.at(truth.quat), self.at(truth.phase_id)), (self.at(truth.quat2), self.at(truth.phase2_id))
        return failure_classes(orientation, phase_id, truth=first, second=second, phases=self.phases)


@dataclass(frozen=True)
class Row:
    """One method on one scan."""

    case: Case
    method: str
    orientation: np.ndarray
    phase_id: np.ndarray
    found: Found

    def numbers(self) -> dict[str, object]:
        """The row of the CSV."""
        error = self.case.error_deg(self.orientation, self.phase_id)
        inside, right = self.case.at(self.case.truth.inside), error < WITHIN_DEG
        classes = self.case.classes(self.orientation, self.phase_id)
        share = np.bincount(classes, minlength=len(CLASSES)) / len(classes)
        return {
            "scan": self.case.name,
            "method": self.method,
            "pixels": len(error),
            "within_3_deg": right.mean(),
            "within_3_deg_inside": right[inside].mean(),
            "median_deg": np.median(error),
            "median_of_right_deg": np.median(error[right]) if right.any() else np.nan,
            "patterns_per_s": self.found.rate(),
            "preparation_per_s": self.found.rate("preparation") if "preparation" in self.found.seconds else np.nan,
            "matching_alone_per_s": self.found.rate("matching"),
            "library_s": self.found.seconds["library"],
            "peak_gib": self.found.peak_gib,
            **dict(zip(CLASSES, share, strict=True)),
        }


def load(path: Path, cifs: list[Path], *, every: int, engine: str) -> Case:
    """Return a scan with its truth."""
    truth = read_truth(path)
    if truth is None:
        raise SystemExit(f"{path}: not there, or no truth beside it. Make it with benchmarks/index_scans.py.")
    name = path.stem.removeprefix("scan_")
    return Case(name, path, cifs, [read_cif(cif) for cif in cifs], truth, every, engine)


def cases_of(wanted: argparse.Namespace) -> list[Case]:
    """Return the scans that were asked for."""
    how = {"every": wanted.every, "engine": wanted.engine}
    if wanted.scan:
        return [load(wanted.scan, wanted.phase, **how)]
    if wanted.quick:
        wanted.only, wanted.rounds, how["every"] = ["dev"], 1, 4
    return [
        load(wanted.scans / f"scan_{name}.hspy", [PHASES / f"{cif}.cif" for cif in SCANS[name]], **how)
        for name in wanted.only
    ]


def run(case: Case, python: str | None) -> tuple[list[Row], dict[str, float]]:
    """Run every method on one scan; the rows, and how well dpcurate's map gives the grains back."""
    told(f"{case.name}: dpcurate")
    ours, index = by_dpcurate(case.path, case.cifs, SPACING_DEG, case.engine)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        job = Path(folder) / "job.npz"
        write_job(case.path, case.cifs, SPACING_DEG, job, every=case.every)
        for method, settings in PYXEM.items():
            told(f"{case.name}: {method}")
            found = by_peer(sys.executable, "pyxem_matching.py", job, settings)
            rows.append(Row(case, f"{method}, its mirror", found.orientation, found.phase_id, found))
            rows.append(Row(case, f"{method}, mirror mended", found.more["mended"], found.phase_id, found))
        for method, settings in PY4DSTEM.items() if python else ():
            told(f"{case.name}: {method}")
            found = by_peer(python, "py4dstem_acom.py", job, settings)
            rows.append(Row(case, method, found.orientation, found.phase_id, found))
    single = case.at(index.candidate_orientation[:, :, 0]), case.at(index.candidate_phase_id[:, :, 0])
    alone = replace(ours, seconds={part: ours.seconds[part] for part in ("library", "matching")})
    rows.append(Row(case, "dpcurate, single patterns", *single, alone))
    final = case.at(index.orientation), case.at(index.phase_id)
    alike = np.abs((final[0] * single[0]).sum(axis=1)) > ALIKE
    if not (alike & (final[1] == single[1])).all():
        rows.append(Row(case, "dpcurate", *final, ours))
    return rows, grains_back(index, case.truth)


def told(what: str) -> None:
    """Say on stderr what is being done."""
    print(what, file=sys.stderr, flush=True)


def speeds(case: Case, rounds: int) -> list[dict[str, float]]:
    """Patterns a second of dpcurate (single patterns, and all) and of pyxem as tuned, on a whole scan, by turns."""
    measured = []
    with tempfile.TemporaryDirectory() as folder:
        job = Path(folder) / "job.npz"
        write_job(case.path, case.cifs, SPACING_DEG, job)
        for number in range(rounds):
            told(f"speed on {case.name}, round {number + 1} of {rounds}")
            load_before = os.getloadavg()[0]
            ours = by_dpcurate(case.path, case.cifs, SPACING_DEG, case.engine)[0]
            theirs = by_peer(sys.executable, "pyxem_matching.py", job, PYXEM["pyxem, tuned"])
            rates = {"single": ours.rate("matching"), "all": ours.rate(), "pyxem": theirs.rate()}
            measured.append(rates | {"load": load_before})
    return measured


def main() -> None:
    """Run every method on every scan and write tables and pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=Path, help="folder of scan_NAME.hspy")
    parser.add_argument("--only", nargs="+", choices=SCANS, default=list(SCANS), help="of the folder")
    parser.add_argument("--scan", type=Path, help="any other scan with truth, instead of a folder")
    parser.add_argument("--phase", type=Path, nargs="+", help="CIF files of its phases")
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--engine", default="fast", help="of dpcurate")
    parser.add_argument("--every", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of speed, on the first scan")
    parser.add_argument("--py4dstem-python", help="python of an environment that holds py4DSTEM")
    parser.add_argument("--quick", action="store_true")
    wanted = parser.parse_args()
    if bool(wanted.scans) == bool(wanted.scan) or bool(wanted.scan) != bool(wanted.phase):
        parser.error("give --scans FOLDER, or --scan FILE with --phase CIF")
    cases = cases_of(wanted)
    wanted.out.mkdir(parents=True, exist_ok=True)
    numbers, grains = [], {}
    for case in cases:
        rows, grains[case.name] = run(case, wanted.py4dstem_python)
        numbers += [row.numbers() for row in rows]
        answers = {row.method: (row.orientation, row.phase_id) for row in rows}
        np.savez_compressed(wanted.out / f"index_{case.name}.npz", **{k: np.c_[v] for k, v in answers.items()})
        draw(answers, case, wanted.out / f"index_{case.name}.png")
        write(numbers, grains, [], cases, wanted.out)
    print(write(numbers, grains, speeds(cases[0], wanted.rounds), cases, wanted.out))


def write(numbers: list[dict], grains: dict, measured: list[dict], cases: list[Case], out: Path) -> str:
    """Write what there is so far as CSV and Markdown; return the Markdown."""
    with (out / "index.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(numbers[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(numbers)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    pixels = f"every {cases[0].every} pixel along both axes, grid {SPACING_DEG:g} degrees"
    tables = [accuracy_table(numbers), failure_table(numbers), grain_table(grains)]
    tables.append(speed_table(measured, cases[0].name))
    text = f"{machine}; {pixels}\n\n" + "\n\n".join("\n".join(table) for table in tables if table) + "\n"
    (out / "index.md").write_text(text, encoding="utf-8")
    return text


if __name__ == "__main__":
    main()
