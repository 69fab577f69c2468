"""What judging grains by dynamical scattering brings: right answers before and after, on scans with exact truth.

Example: python benchmarks/judged_grains.py --phase LiNiO2.cif --scan scan_dev.hspy --scan scan_precession.hspy
Indexes each scan (NAME.truth.npz beside it) and keeps what was said of every grain with two rivals or more. A rival is
right when it is within 4 degrees of the truth at most of the pixels that were looked at. Before: the rival that has the
best pooled score; after: the one that dynamical scattering chose.
"""

import argparse
from pathlib import Path

import numpy as np

from dpcurate import second_pass
from dpcurate.consensus import Undecided
from dpcurate.orientations import disorientation_deg
from dpcurate.pipeline import index_scan
from dpcurate.recipe import Recipe
from dpcurate.schema import PhaseRecord
from dpcurate.truth import Truth, read_truth

RIGHT_DEG = 4.0


def judged_cases(scan: Path, recipe: Recipe) -> tuple[tuple[PhaseRecord, ...], float, list[tuple[Undecided, int]]]:
    """Phases and precession of a scan, and each grain that was judged with the number of the rival that won."""
    cases, judged = [], second_pass.judged

    def kept(ranker, read, case):
        found = judged(ranker, read, case)
        if len(case.rivals.score) > 1:
            cases.append((case, found[0]))
        return found

    second_pass.judged = kept
    try:
        result = index_scan(scan, recipe)
    finally:
        second_pass.judged = judged
    return result.phases, result.info["calibration"]["precession_deg"], cases


def right_rivals(case: Undecided, truth: Truth, phases: tuple[PhaseRecord, ...]) -> np.ndarray:
    """Which rivals of a grain are right, (r,)."""
    at = tuple(case.sites.T)
    found = []
    for orientation, number in zip(case.rivals.orientation, case.rivals.phase_id, strict=True):
        away = disorientation_deg(truth.quat[at], orientation[None], phases[number].proper_rotations())
        found.append(((away < RIGHT_DEG) & (truth.phase_id[at] == number)).mean() > 0.5)
    return np.array(found)


def main() -> None:
    """Index, count, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--phase", required=True, action="append")
    parser.add_argument("--scan", required=True, action="append", type=Path)
    arguments = parser.parse_args()
    recipe = Recipe(phases=tuple(arguments.phase))
    print("scan | precession | grains | one rival right | before | after")
    total = np.zeros(4, int)
    for scan in arguments.scan:
        phases, precession_deg, cases = judged_cases(scan, recipe)
        truth = read_truth(scan)
        if truth is None:
            raise SystemExit(f"{scan}: no truth file beside it")
        right = [(right_rivals(case, truth, phases), winner) for case, winner in cases]
        row = [len(right), sum(r.any() for r, _ in right), sum(r[0] for r, _ in right), sum(r[w] for r, w in right)]
        total += row
        print(f"{scan.stem} | {precession_deg:.2f} | " + " | ".join(map(str, row)), flush=True)
    print("all | | " + " | ".join(map(str, total)))


if __name__ == "__main__":
    main()
