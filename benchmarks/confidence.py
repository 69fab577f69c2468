"""Fit the confidence on virtual scans and judge it on scans that it has not seen.

Example: python benchmarks/confidence_scans.py --out scans; python benchmarks/confidence.py --scans scans --out results
Each virtual scan is judged by a calibrator fitted to scans of other groups; what is shipped is fitted to all of them,
and judged on every index given by `--judge` (with its NAME.truth.npz beside its scan). Prints a table, writes
`confidence.csv` and `confidence.png`. `--without` refits with groups of features left out; `--ship` writes the
calibrator into the package. Labels that are not indexed have confidence 0 and count as wrong in coverage and risk.
"""

import argparse
import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from dpcurate.calibration_scores import RIGHT_DEG, kept_at, over_grains, reliability_diagram, risk_area, risk_coverage
from dpcurate.calibrator import SHIPPED, Calibrator, confidence_of
from dpcurate.calibrator_fit import Judged, fit, judged
from dpcurate.crystal_maps import IndexResult, read_index
from dpcurate.label_features import FEATURES
from dpcurate.truth import Truth, label_errors_deg, read_truth

AT = 0.8
RIVALS = ("correlation", "reliability", "agreement")
"""Scores that others sort by: correlation of pyxem, R of ASTAR (here from 0 to 1), agreement of neighbours."""

COLORS = {"confidence": "#0072B2", "correlation": "#E69F00", "reliability": "#009E73", "agreement": "#CC79A7"}

GROUPS = {
    "physics": ("support", "decided_by_dynamics", "decided_by_share"),
    "neighbours": ("agreement", "around_own"),
    "grain": ("grain_own", "grain_margin", "grain_lead", "correlation_in_grain"),
    "candidates": ("margin_4", "margin_10", "margin_25", "entropy", "own_rank", "rival_deg", "reliability"),
    "overlap": ("weight",),
}
"""Features that are left out together to see what they bring."""

FOLDS = 6

Scan = tuple[IndexResult, Truth]


def read(folder: Path) -> Scan:
    """An index and the truth of its scan."""
    result = read_index(folder)
    truth = read_truth(result.info["scan"]["path"])
    if truth is None:
        raise SystemExit(f"{result.info['scan']['path']}: no truth file beside it")
    return result, truth


def arrays(result: IndexResult, truth: Truth, calibrator: Calibrator) -> dict[str, np.ndarray]:
    """What a scan is judged by, each (pixels,): confidence, right, true grain, and what others sort by."""
    error = label_errors_deg(result.orientation, result.phase_id, truth, phases=result.phases)
    trust, expected = confidence_of(result, calibrator=calibrator)
    found = {
        "confidence": trust,
        "right": error < RIGHT_DEG,
        "grain": truth.grain,
        "expected": expected,
        "error": error,
    }
    found |= {rival: getattr(result, rival) for rival in RIVALS}
    return {key: value.ravel() if value.dtype == bool else value.ravel().astype(float) for key, value in found.items()}


def pooled(parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Several scans as one; their grains stay apart."""
    apart = [part | {"grain": part["grain"] + 10_000 * k} for k, part in enumerate(parts)]
    return {key: np.concatenate([part[key] for part in apart]) for key in apart[0]}


def row_of(name: str, phases: str, found: dict[str, np.ndarray]) -> dict:
    """Numbers over all pixels."""
    trust, right = found["confidence"], found["right"]
    precision, coverage = kept_at(trust, right, AT)
    interval = over_grains(found["grain"].astype(int), trust, right, threshold=AT)
    indexed = found["expected"] < 180
    return {
        "scan": name,
        "phases": phases,
        "grains": len(np.unique(found["grain"])),
        "right": right.mean(),
        "calibration error": reliability_diagram(trust, right).error,
        "error low": interval["calibration error"][0],
        "error high": interval["calibration error"][1],
        "precision": precision,
        "precision low": interval["precision"][0],
        "precision high": interval["precision"][1],
        "coverage": coverage,
        "area": risk_area(trust, right),
        **{f"area {rival}": risk_area(found[rival], right) for rival in RIVALS},
        "expected deg": found["expected"][indexed].mean(),
        "found deg": found["error"][indexed].mean(),
    }


def fold_calibrators(scans: list[Judged], *, without: tuple[str, ...] = ()) -> list[Calibrator]:
    """For each scan a calibrator that has seen no scan of its group; scans of one phase are spread over the groups."""
    dropped = [FEATURES.index(name) for name in without]
    for scan in scans:
        scan.features[:, dropped] = 0
    fold = np.arange(len(scans)) * FOLDS // len(scans)
    made = {f: fit([scan for scan, g in zip(scans, fold, strict=True) if g != f]) for f in np.unique(fold).tolist()}
    return [made[f] for f in fold.tolist()]


def left_out(scans: list[Judged], names: tuple[str, ...]) -> tuple[float, float]:
    """Calibration error and area under the risk-coverage curve over indexed labels, without some features."""
    own = [replace_features(scan) for scan in scans]
    calibrators = fold_calibrators(own, without=names)
    trust = np.concatenate([c.probability(scan.features) for c, scan in zip(calibrators, own, strict=True)])
    right = np.concatenate([scan.right for scan in own])
    return reliability_diagram(trust, right).error, risk_area(trust, right)


def replace_features(scan: Judged) -> Judged:
    """A copy whose features may be changed."""
    return replace(scan, features=scan.features.copy())


def picture(shown: dict[str, dict[str, np.ndarray]], path: Path) -> None:
    """Risk against coverage above, reliability diagrams below, one column for each of ``shown``."""
    figure = Figure(figsize=(4.2 * len(shown), 7.6), layout="constrained")
    axes = figure.subplots(2, len(shown), squeeze=False)
    for (above, below), (title, found) in zip(axes.T, shown.items(), strict=True):
        trust, right = found["confidence"], found["right"]
        for label in ("confidence", *RIVALS):
            coverage, risk = risk_coverage(found[label], right)
            named = {"reliability": "reliability (ASTAR's R)", "agreement": "agreement of neighbours"}.get(label, label)
            above.plot(coverage, risk, color=COLORS[label], label=f"{named}: area {risk.mean():.3f}")
        above.axhline(1 - right.mean(), color="0.7", lw=0.8, ls=":")
        most = 1.8 * max(1 - right.mean(), 0.05)
        above.set(xlim=(0, 1), ylim=(0, most), xlabel="coverage", ylabel="share of wrong labels kept", title=title)
        above.legend(fontsize=7, loc="upper left")
        diagram = reliability_diagram(trust, right)
        below.plot([0, 1], [0, 1], color="0.7", lw=0.8)
        size = 12 + 500 * diagram.share
        below.scatter(diagram.confidence, diagram.right, s=size, color=COLORS["confidence"], alpha=0.7, clip_on=False)
        below.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="share of right labels")
        words = f"calibration error {diagram.error:.3f}\narea of a dot: share of labels"
        below.text(0.97, 0.04, words, fontsize=8, ha="right", va="bottom")
    figure.savefig(path, dpi=150)


def table(rows: list[dict], path: Path) -> None:
    """Print the rows and write them as CSV."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(rows[0])
        for row in rows:
            cells = [f"{value:.4f}" if isinstance(value, float) else value for value in row.values()]
            writer.writerow(cells)
    print(" | ".join(rows[0]))
    for row in rows:
        print(" | ".join(f"{value:.3f}" if isinstance(value, float) else str(value) for value in row.values()))


def main() -> None:
    """Fit, judge, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", required=True, type=Path)
    parser.add_argument("--judge", action="append", type=Path, default=[])
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--without", action="store_true")
    parser.add_argument("--ship", action="store_true")
    arguments = parser.parse_args()
    read_scans = {path.stem: read(path) for path in sorted(arguments.scans.glob("scan_*.index"))}
    seen = [judged(*pair) for pair in read_scans.values()]
    calibrators = fold_calibrators(seen)
    parts = [arrays(*pair, calibrator) for pair, calibrator in zip(read_scans.values(), calibrators, strict=True)]
    names = [" ".join(phase.name for phase in result.phases) for result, _ in read_scans.values()]
    rows = [row_of(*of) for of in zip(read_scans, names, parts, strict=True)]
    shown = {f"{len(parts)} virtual scans": pooled(parts)}
    for phases in dict.fromkeys(names):
        own = [part for part, name in zip(parts, names, strict=True) if name == phases]
        rows.append(row_of(f"{len(own)} of them", phases, pooled(own)))
    rows += [row_of(name, "", found) for name, found in shown.items()]
    everything = fit(seen, origin={"scans_of": "benchmarks/confidence_scans.py"})
    for path in arguments.judge:
        result, truth = read(path)
        shown[path.stem] = arrays(result, truth, everything)
        rows.append(row_of(path.stem, " ".join(phase.name for phase in result.phases), shown[path.stem]))
    arguments.out.mkdir(parents=True, exist_ok=True)
    print(f"fitted to {everything.origin}")
    table(rows, arguments.out / "confidence.csv")
    picture(dict(list(shown.items())[:3]), arguments.out / "confidence.png")
    if arguments.without:
        for name, features in {"nothing": (), **GROUPS}.items():
            error, area = left_out(seen, features)
            print(f"without {name}: calibration error {error:.3f}, area {area:.4f}")
    if arguments.ship:
        SHIPPED.write_text(everything.to_json(), encoding="utf-8")


if __name__ == "__main__":
    main()
