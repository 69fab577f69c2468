import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpcurate.confidence import confidence, neighbour_agreement, reliability, shifted_slices
from dpcurate.grains import find_grains
from dpcurate.orientations import multiply, random_uniform
from tests.crystals import LINIO2, NICKEL

SYMMETRIES = [LINIO2.proper_rotations(), NICKEL.proper_rotations()]


def mosaic(rows=8, columns=9, *, seed=0, n=4):
    """A map of blocks, each of one orientation, with random equivalents of the phase's symmetry per pixel."""
    rng = np.random.default_rng(seed)
    block = (np.arange(rows)[:, None] // 4) * 2 + np.arange(columns)[None] // 5
    orientation = random_uniform(n, seed=rng)[block]
    s = SYMMETRIES[0][rng.integers(0, 6, (rows, columns))]
    return multiply(s, orientation), np.zeros((rows, columns), np.int16), block


def test_reliability_is_astars_r_over_100():
    assert reliability(np.array([0.5, 0.5, 0.0]), np.array([0.4, 0.5, 0.0])) == pytest.approx([0.2, 0, 0])


@settings(max_examples=30, deadline=None)
@given(values=st.lists(st.floats(0, 1), min_size=2, max_size=2), which=st.integers(0, 1), more=st.floats(0, 0.5))
def test_confidence_lies_in_0_1_and_never_falls_when_a_feature_rises(values, which, more):
    features = dict(zip(("reliability", "agreement"), map(np.float32, values), strict=True))
    name = ("reliability", "agreement")[which]
    low = confidence(**features)
    high = confidence(**features | {name: min(np.float32(1), features[name] + np.float32(more))})
    assert 0 <= low <= high <= 1


def test_agreement_is_full_inside_a_grain_and_blind_to_equivalents():
    orientation, phase_id, block = mosaic()
    agreement = neighbour_agreement(orientation, phase_id, symmetries=SYMMETRIES, boundary_deg=5)
    assert agreement[1:3, 1:4] == pytest.approx(1)
    here, there = shifted_slices((0, 1))
    border = (block[here] != block[there]).nonzero()
    assert (agreement[here][border] < 1).all()


def test_another_phase_and_not_indexed_never_agree():
    orientation = np.broadcast_to([1.0, 0, 0, 0], (3, 3, 4)).copy()
    phase_id = np.array([[0, 0, 0], [0, 1, 0], [0, 0, -1]], np.int16)
    agreement = neighbour_agreement(orientation, phase_id, symmetries=SYMMETRIES, boundary_deg=5)
    assert agreement[1, 1] == 0
    assert agreement[2, 2] == 0
    assert agreement[0, 0] == pytest.approx(2 / 3)


def grains(orientation, phase_id, min_pixels=1):
    return find_grains(orientation, phase_id, symmetries=SYMMETRIES, boundary_deg=5, min_pixels=min_pixels)


def test_grains_are_the_blocks_of_a_mosaic():
    orientation, phase_id, block = mosaic()
    assert (grains(orientation, phase_id) == block).all()


def test_a_misindexed_pixel_joins_the_grain_around_it_and_large_grains_stay_apart():
    orientation, phase_id, block = mosaic()
    orientation[1, 1] = random_uniform(1, seed=77)[0]
    assert grains(orientation, phase_id).max() == 4
    assert (grains(orientation, phase_id, min_pixels=3) == block).all()


def test_pixels_without_an_orientation_belong_to_no_grain():
    orientation, phase_id, _ = mosaic()
    phase_id[0, :3] = -1
    found = grains(orientation, phase_id, min_pixels=3)
    assert (found[0, :3] == -1).all()
    assert set(np.unique(found)) == set(range(-1, 4))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), min_pixels=st.integers(1, 6))
def test_no_piece_below_the_smallest_size_is_left_beside_another(seed, min_pixels):
    rng = np.random.default_rng(seed)
    orientation = random_uniform(3, seed=rng)[rng.integers(0, 3, (7, 7))]
    found = grains(orientation, np.zeros((7, 7), np.int16), min_pixels=min_pixels)
    counts = np.bincount(found.ravel())
    assert len(counts) == 1 or counts.min() >= min_pixels
    first = [np.flatnonzero(found.ravel() == grain)[0] for grain in range(len(counts))]
    assert first == sorted(first)
