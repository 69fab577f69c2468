"""What noise scores: patterns without a crystal stay below the limit and are not indexed, those of a crystal are."""

from pathlib import Path

import numpy as np
import pytest

from dpcurate.consensus import from_neighbours
from dpcurate.engine import match_patterns
from dpcurate.matchers import engine_of
from dpcurate.matching import Matches
from dpcurate.noise_scores import background_of, gain_of, noise_score
from dpcurate.pipeline import outermost, read_phases
from dpcurate.recipe import load_recipe
from dpcurate.scan_sample import sample_scan
from dpcurate.scans import open_scan
from tests.three_grains import write_scan

PHASES = Path(__file__).parents[1] / "datasets" / "phases"


def rings(shape=(64, 64)):
    row, column = np.indices(shape)
    return np.round(np.hypot(column - 32, row - 32)).astype(int)


@pytest.mark.parametrize("gain", [1.0, 12.0])
def test_gain_is_found_among_spots(gain):
    rng, ring = np.random.default_rng(0), rings()
    mean = 60 * np.exp(-ring / 30)
    mean[20:24, 40:44] += 3000
    patterns = (rng.poisson(np.broadcast_to(mean, (8, 64, 64))) * gain).astype(np.float32)
    assert gain_of(patterns, ring) == pytest.approx(gain, rel=0.15)


def test_dark_patterns_have_gain_1():
    assert gain_of(np.ones((4, 64, 64), np.float32), rings()) == 1


def test_background_leaves_out_what_few_patterns_have():
    ring = rings()
    patterns = np.full((8, 64, 64), 3.0, np.float32)
    patterns[:4, ring == 20] = 50
    assert background_of(patterns, ring) == pytest.approx(3)


def test_a_hole_is_not_indexed_and_the_crystal_beside_it_is(tmp_path):
    path, _ = write_scan(tmp_path)
    chosen = load_recipe(phases=[str(PHASES / "LiNiO2.cif")])
    scan, phases = open_scan(path, chosen.scan), read_phases(chosen.phases)
    sample = sample_scan(scan)
    engine = engine_of(scan, phases, chosen, k_max=outermost(scan, chosen), sample=sample)
    limit = noise_score(engine, sample, center_xy=scan.calibration.center_xy)
    patterns = scan.patterns.compute().astype(np.float32)
    row, column = np.indices(patterns.shape[2:])
    center = scan.calibration.center_xy
    ring = np.round(np.hypot(column - center[0], row - center[1])).astype(int)
    background = background_of(sample.patterns, ring)[ring]
    patterns[:, :7] = np.random.default_rng(1).poisson(0.7 * background, (len(patterns), 7, *background.shape))
    found = match_patterns(engine, patterns.reshape(-1, *background.shape))
    shape = patterns.shape[:2]
    matches = Matches(
        found.orientation.reshape(*shape, -1, 4),
        found.score.reshape(*shape, -1),
        found.phase_id.reshape(*shape, -1),
        found.runner_up_score.reshape(shape),
    )
    agreed = from_neighbours(matches, np.zeros(shape, bool), phases, boundary_deg=5, min_pixels=5, noise_score=limit)
    assert (agreed.phase_id[:, :7] < 0).mean() > 0.85
    assert (agreed.phase_id[:, 7:] >= 0).mean() > 0.97
