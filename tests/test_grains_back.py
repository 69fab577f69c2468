"""How benchmarks judge whether an index gives a specimen's grains back."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.grains_back import LEAST_PIXELS, grains_back, mean_orientation
from dpcurate.microstructure import voronoi
from dpcurate.orientations import disorientation_deg, equivalents, multiply, random_uniform, turn_pattern
from dpcurate.truth import Truth
from tests.crystals import LINIO2, NICKEL
from tests.index_results import index_result

SHAPE = (24, 30)
STRUCTURE = voronoi(SHAPE, n_grains=8, phases=(LINIO2, NICKEL), seed=3)
TRUTH = Truth(**vars(STRUCTURE))
PERFECT = replace(
    index_result(SHAPE),
    orientation=STRUCTURE.quat,
    phase_id=STRUCTURE.phase_id,
    grain_id=STRUCTURE.grain.astype(np.int32),
)


def test_the_truth_gives_all_grains_back():
    found = grains_back(PERFECT, TRUTH)
    assert found["true grains"] == found["found grains"] > 1
    assert found["adjusted Rand index, all"] == found["grains with the right mean"] == 1


def test_a_third_of_wrong_pixels_leaves_the_means_right_and_a_wrong_phase_does_not():
    rng = np.random.default_rng(1)
    wrong = rng.uniform(size=SHAPE) < 1 / 3
    spoilt = np.where(wrong[..., None], random_uniform(wrong.size, seed=rng).reshape(*SHAPE, 4), PERFECT.orientation)
    assert grains_back(replace(PERFECT, orientation=spoilt), TRUTH)["grains with the right mean"] == 1
    grain, sizes = np.unique(TRUTH.grain, return_counts=True)
    biggest = TRUTH.grain == grain[sizes.argmax()]
    other = replace(PERFECT, phase_id=np.where(biggest, 1 - PERFECT.phase_id, PERFECT.phase_id))
    n_grains = int((sizes >= LEAST_PIXELS).sum())
    assert grains_back(other, TRUTH)["grains with the right mean"] == pytest.approx(1 - 1 / n_grains)


def test_one_found_grain_over_everything_agrees_with_nothing():
    found = grains_back(replace(PERFECT, grain_id=np.zeros(SHAPE, np.int32)), TRUTH)
    assert found["adjusted Rand index, all"] == pytest.approx(0)


def test_a_mean_does_not_depend_on_which_equivalents_it_is_made_of():
    symmetry = LINIO2.proper_rotations()
    pixels = turn_pattern(random_uniform(1, seed=2), np.linspace(-1, 1, 15))
    mixed = equivalents(pixels, symmetry)[np.arange(15), np.arange(15) % len(symmetry)]
    means = [mean_orientation(each, symmetry) for each in (pixels, mixed)]
    assert disorientation_deg(*means, symmetry) < 1e-4
    assert disorientation_deg(multiply(symmetry[1], means[0]), pixels[7], symmetry) < 1e-4
