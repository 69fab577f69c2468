"""How well simulated patterns pass for those of a scan: a classifier is trained to tell them apart.

Example: python benchmarks/likeness.py --data scan.hspy --phase datasets/phases/LiNiO2.cif --out likeness.png
Sample and instrument are estimated from some patterns of the scan and tried on more. The classifier sees measurements
of a pattern, its radial profile and quantiles of its counts. It is judged on groups that it has not seen: grains of an
index, or else squares of the scan.
"""

import argparse
from pathlib import Path

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.inspection import permutation_importance
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold

from dpcurate.crystal_maps import IndexResult, read_index
from dpcurate.likeness import ScanSample, estimate_recipe, measured, sample_scan
from dpcurate.likeness_figures import write_likeness
from dpcurate.likeness_ranges import instrument_of
from dpcurate.orientations import turn_pattern
from dpcurate.pattern_features import TOP, PatternFeatures
from dpcurate.phases import read_cif
from dpcurate.scans import open_scan
from dpcurate.schema import PhaseRecord
from dpcurate.simulation_plan import SimulationPlan, SimulationRecipe
from dpcurate.simulator import draw, make_simulator, simulate

FOLDS, SQUARE, RINGS = 5, 5, 4
"""Parts of the data judged in turn; side of a square in sampled patterns; rings in one bin of the profile."""

SPREAD_DEG = 0.5
"""Of simulated orientations about those of an index."""

QUANTILES = (0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)


def table(patterns: np.ndarray, features: PatternFeatures) -> tuple[np.ndarray, list[str]]:
    """What the classifier sees of each pattern, (n, columns), and the columns' names."""
    f = features
    single = ("total", "direct_sigma_px", "direct_share", "spot_count", "spot_sigma_px", "background_share")
    columns = {name: getattr(f, name)[:, None] for name in (*single, "background_radius")}
    columns["off_center"] = np.hypot(*(f.center_xy - np.median(f.center_xy, axis=0)).T)[:, None]
    columns["spot_share"] = f.spot_share[:, :TOP]
    whole = f.profile.shape[1] // RINGS * RINGS
    for name in ("profile", "background"):
        rings = np.nan_to_num(getattr(f, name))[:, :whole] * f.pixels[:, :whole]
        columns[name] = rings.reshape(len(rings), -1, RINGS).sum(axis=2)
    flat = patterns.reshape(len(patterns), -1)
    columns["quantile"] = np.quantile(flat, QUANTILES, axis=1).T
    columns["share_of_pixels_with"] = np.stack([(flat == k).mean(axis=1) for k in range(4)], axis=1)
    names = [f"{n}[{i}]" if c.shape[1] > 1 else n for n, c in columns.items() for i in range(c.shape[1])]
    return np.concatenate(list(columns.values()), axis=1), names


def tell_apart(x: np.ndarray, y: np.ndarray, group: np.ndarray, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Out-of-fold probability of being simulated, (n,), and the loss of area for want of each column."""
    found, importance = np.zeros(len(y)), np.zeros(x.shape[1])
    for learn, judge in StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed).split(x, y, group):
        network = HistGradientBoostingClassifier(max_iter=150, learning_rate=0.08, random_state=seed)
        network.fit(x[learn], y[learn])
        found[judge] = network.predict_proba(x[judge])[:, 1]
        lost = permutation_importance(network, x[judge], y[judge], scoring="roc_auc", n_repeats=1, random_state=seed)
        importance += lost.importances_mean / FOLDS
    return found, importance


def bootstrap(found: np.ndarray, y: np.ndarray, group: np.ndarray, *, seed: int) -> np.ndarray:
    """Quantiles 5 % and 95 % of the area when groups are drawn anew."""
    rng, names = np.random.default_rng(seed), np.unique(group)
    rows = {name: np.flatnonzero(group == name) for name in names}
    areas = []
    for _ in range(200):
        some = np.concatenate([rows[name] for name in rng.choice(names, len(names))])
        if 0 < y[some].mean() < 1:
            areas.append(roc_auc_score(y[some], found[some]))
    return np.quantile(areas, (0.05, 0.95))


def groups(sample: ScanSample, index: IndexResult | None) -> np.ndarray:
    """Grain, or square of the scan, of each pattern."""
    if index is not None:
        return index.grain_id[*sample.pixel.T].astype(int)
    place = np.unique(sample.pixel[:, 0], return_inverse=True)[1], np.unique(sample.pixel[:, 1], return_inverse=True)[1]
    return place[0] // SQUARE * 1000 + place[1] // SQUARE


def simulated(
    recipe: SimulationRecipe, sample: ScanSample, phases: tuple[PhaseRecord, ...], index: IndexResult | None, seed: int
) -> np.ndarray:
    """As many patterns as the sample has: around its orientations if an index gives them, else uniform."""
    parents = []
    if index is not None:
        at = tuple(sample.pixel.T)
        orientation = turn_pattern(index.orientation[at], -index.info["calibration"].get("rotation_deg", 0.0))
        parents = [orientation[index.phase_id[at] == number] for number in range(len(phases))]
        recipe = recipe.model_copy(update={"orientations": "around", "spread_deg": SPREAD_DEG})
    plan = SimulationPlan(recipe=recipe, geometry=sample.geometry, seed=seed, number=len(sample.patterns))
    simulator = make_simulator(plan, phases, parents=parents)
    return simulate(simulator, draw(simulator, np.arange(len(sample.patterns))))


def main() -> None:
    """Estimate, simulate, tell apart, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--phase", required=True, action="append")
    parser.add_argument("--index")
    parser.add_argument("--patterns", type=int, default=400)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    scan, index = open_scan(arguments.data), read_index(arguments.index) if arguments.index else None
    phases = index.phases if index else tuple(read_cif(path) for path in arguments.phase)
    recipe = estimate_recipe(sample_scan(scan), phases, index=index, seed=arguments.seed)
    print(recipe.model_dump_json(indent=1))
    sample = sample_scan(scan, arguments.patterns)
    made = simulated(recipe, sample, phases, index, arguments.seed)
    known, center = recipe.sample.instrument, sample.geometry.center_xy
    _, gain, _ = instrument_of(sample.patterns, known, center_xy=center)
    both = (sample.patterns, made)
    features = tuple(measured(some, sample.geometry, gain=gain) for some in both)
    tables = [table(some / gain, measurements) for some, measurements in zip(both, features, strict=True)]
    x, names = np.concatenate([t[0] for t in tables]), tables[0][1]
    y = np.repeat([0, 1], [len(some) for some in both])
    own = groups(sample, index)
    group = np.concatenate([own, own if index else 10**6 + np.arange(len(made)) // SQUARE**2])
    found, importance = tell_apart(x, y, group, seed=arguments.seed)
    low, high = bootstrap(found, y, group, seed=arguments.seed)
    print(f"area under the curve {roc_auc_score(y, found):.3f} ({low:.3f} to {high:.3f}), {len(made)} patterns a side")
    for column in np.argsort(-importance)[:10]:
        real, other = (np.nanquantile(x[y == side, column], (0.1, 0.5, 0.9)) for side in (0, 1))
        alone = roc_auc_score(y, np.nan_to_num(x[:, column]))
        print(f"{names[column]:>26} loses {importance[column]:.3f}, alone {alone:.3f}: scan {real} simulated {other}")
    if arguments.out:
        scale, paired = sample.geometry.scale_inv_angstrom, index is not None and len(phases) == 1
        print(write_likeness(both, features, arguments.out, scale_inv_angstrom=scale, paired=paired))


if __name__ == "__main__":
    main()
