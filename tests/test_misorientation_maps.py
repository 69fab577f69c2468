"""KAM and GROD on maps whose bending is known."""

import numpy as np
import pytest

from dpcurate.misorientation_maps import grain_deviation, kernel_average_misorientation
from dpcurate.orientations import disorientation_deg, multiply, random_uniform
from tests.crystals import BY_LAUE_GROUP, LINIO2, NICKEL

SHAPE = (9, 12)


def about(axis, angle_deg):
    half = np.radians(np.asarray(angle_deg, float))[..., None] / 2
    axis = np.asarray(axis, float) / np.linalg.norm(axis)
    return np.concatenate([np.cos(half), np.sin(half) * axis], axis=-1)


def bent(step_deg, axis=(1, 2, 3), *, shape=SHAPE, seed=0):
    """A map turned by ``step_deg`` more with each column about an axis of the lab."""
    return multiply(random_uniform(1, seed=seed)[0], about(axis, step_deg * np.indices(shape)[1]))


def symmetries(*phases):
    return [phase.proper_rotations() for phase in phases]


def shuffled(orientation, phase, *, seed):
    """Every pixel replaced by one of its symmetric equivalents, some with the other sign."""
    rng = np.random.default_rng(seed)
    operations = phase.proper_rotations()[rng.integers(0, len(phase.symmetry), orientation.shape[:2])]
    return multiply(operations, orientation) * rng.choice([-1, 1], orientation.shape[:2])[..., None]


@pytest.mark.parametrize("laue", BY_LAUE_GROUP)
def test_symmetric_equivalents_change_nothing(laue):
    phase = BY_LAUE_GROUP[laue]
    rng = np.random.default_rng(1)
    g = multiply(bent(0.4), about((3, 1, 2), rng.normal(scale=0.5, size=SHAPE)))
    g[2, 3] = random_uniform(1, seed=5)[0]
    phase_id, grain_id = np.zeros(SHAPE, np.int16), np.repeat(np.indices((9, 2))[1], 6, axis=1)
    plain, other = (
        grain_deviation(one, phase_id, grain_id, symmetries=symmetries(phase))
        for one in (g, shuffled(g, phase, seed=2))
    )
    assert other.deviation_deg == pytest.approx(plain.deviation_deg, abs=1e-5)
    assert other.spread_deg == pytest.approx(plain.spread_deg, abs=1e-5)
    assert disorientation_deg(plain.mean, other.mean, phase.proper_rotations()) == pytest.approx(0, abs=1e-5)
    kam = [
        kernel_average_misorientation(one, phase_id, symmetries=symmetries(phase))
        for one in (g, shuffled(g, phase, seed=3))
    ]
    assert kam[1] == pytest.approx(kam[0], abs=1e-5, nan_ok=True)


def test_a_constant_map_has_neither():
    g, phase_id = np.tile(random_uniform(1, seed=3)[0], (*SHAPE, 1)), np.zeros(SHAPE, np.int16)
    found = grain_deviation(
        shuffled(g, NICKEL, seed=4), phase_id, phase_id.astype(np.int32), symmetries=symmetries(NICKEL)
    )
    assert found.deviation_deg == pytest.approx(0, abs=1e-5)
    assert found.spread_deg == pytest.approx(0, abs=1e-5)
    kam = kernel_average_misorientation(g, phase_id, symmetries=symmetries(NICKEL))
    assert kam == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("step_deg", [0.1, 0.8, 2.0])
def test_an_even_bend_gives_the_kam_that_it_must(step_deg):
    """Order 1: of four neighbours two differ by a step. Order 2: of twelve 2 by two steps, 6 by one, 4 by none."""
    phase_id = np.zeros(SHAPE, np.int16)
    first = kernel_average_misorientation(bent(step_deg), phase_id, symmetries=symmetries(LINIO2))
    assert first[1:-1, 1:-1] == pytest.approx(step_deg / 2, rel=1e-6)
    assert first[0, 1:-1] == pytest.approx(2 * step_deg / 3, rel=1e-6)
    second = kernel_average_misorientation(bent(step_deg), phase_id, symmetries=symmetries(LINIO2), order=2)
    assert second[2:-2, 2:-2] == pytest.approx((2 * 2 + 6) * step_deg / 12, rel=1e-6)


def test_neighbours_beyond_the_threshold_do_not_count():
    g, phase_id = bent(0.5), np.zeros(SHAPE, np.int16)
    g[4, 5] = multiply(g[4, 5], about((1, 0, 0), 20.0))
    kam = kernel_average_misorientation(g, phase_id, symmetries=symmetries(LINIO2), threshold_deg=5.0)
    assert np.isnan(kam[4, 5])
    assert kam[3, 5] == pytest.approx(2 * 0.5 / 3, rel=1e-6)
    assert kam[4, 4] == pytest.approx(0.5 / 3, rel=1e-6)
    with pytest.raises(ValueError, match="order 0"):
        kernel_average_misorientation(g, phase_id, symmetries=symmetries(LINIO2), order=0)


def test_only_neighbours_of_the_same_phase_count():
    g, phase_id = bent(0.5), np.zeros(SHAPE, np.int16)
    phase_id[:, 6:], phase_id[4, 2] = 1, -1
    kam = kernel_average_misorientation(g, phase_id, symmetries=symmetries(LINIO2, NICKEL))
    assert kam[1:-1, 5] == pytest.approx(0.5 / 3, rel=1e-6)
    assert kam[1:-1, 6] == pytest.approx(0.5 / 3, rel=1e-6)
    assert np.isnan(kam[4, 2])


@pytest.mark.parametrize("step_deg", [0.2, 1.5])
def test_the_mean_of_an_evenly_bent_grain_is_its_middle(step_deg):
    phase_id = np.zeros((5, 11), np.int16)
    g = bent(step_deg, shape=(5, 11))
    found = grain_deviation(
        shuffled(g, NICKEL, seed=1), phase_id, phase_id.astype(np.int32), symmetries=symmetries(NICKEL)
    )
    assert disorientation_deg(found.mean[0], g[0, 5], NICKEL.proper_rotations()) == pytest.approx(0, abs=1e-5)
    expected = step_deg * np.abs(np.indices((5, 11))[1] - 5)
    assert found.deviation_deg == pytest.approx(expected, abs=1e-5)
    assert found.spread_deg[0] == pytest.approx(expected.mean(), abs=1e-5)


@pytest.mark.parametrize("share", [0.05, 0.3])
@pytest.mark.parametrize("away_deg", [10.0, 40.0])
def test_misindexed_pixels_do_not_move_the_mean(share, away_deg):
    shape = (20, 20)
    g = np.tile(random_uniform(1, seed=6)[0], (*shape, 1))
    wrong = np.random.default_rng(7).permutation(400).reshape(shape) < share * 400
    wrong[0, 0] = True
    truth = g[10, 10].copy()
    g[wrong] = multiply(g[wrong], about((1, 1, 0), away_deg))
    grain_id = np.zeros(shape, np.int32)
    found = grain_deviation(g, grain_id.astype(np.int16), grain_id, symmetries=symmetries(LINIO2))
    assert disorientation_deg(found.mean[0], truth, LINIO2.proper_rotations()) == pytest.approx(0, abs=1e-5)
    assert found.deviation_deg[~wrong] == pytest.approx(0, abs=1e-5)
    assert found.deviation_deg[wrong] == pytest.approx(away_deg, abs=1e-4)
    assert found.spread_deg[0] == pytest.approx(0, abs=1e-5)


def test_each_grain_has_its_own_mean_and_pixels_of_another_phase_have_none():
    g = np.tile(random_uniform(1, seed=8)[0], (4, 6, 1))
    g[:, 3:] = random_uniform(1, seed=9)[0]
    phase_id = np.repeat(np.repeat([[0, 1]], 4, axis=0), 3, axis=1).astype(np.int16)
    grain_id = phase_id.astype(np.int32)
    phase_id[0, 0], phase_id[1, 1], grain_id[1, 1], grain_id[3, 5] = 1, -1, -1, -1
    found = grain_deviation(g, phase_id, grain_id, symmetries=symmetries(LINIO2, NICKEL))
    assert found.phase_id.tolist() == [0, 1]
    assert np.isnan(found.deviation_deg[[0, 1, 3], [0, 1, 5]]).all()
    assert np.isnan(found.deviation_deg).sum() == 3
    for grain, (pixel, phase) in enumerate((((2, 0), LINIO2), ((2, 4), NICKEL))):
        assert disorientation_deg(found.mean[grain], g[pixel], phase.proper_rotations()) == pytest.approx(0, abs=1e-5)


def test_a_map_without_an_indexed_pixel_has_no_grain():
    empty = np.full((3, 4), -1, np.int16)
    g = np.tile([1.0, 0, 0, 0], (3, 4, 1))
    found = grain_deviation(g, empty, empty.astype(np.int32), symmetries=symmetries(LINIO2))
    assert found.mean.shape == (0, 4)
    assert np.isnan(found.deviation_deg).all()
    assert np.isnan(kernel_average_misorientation(g, empty, symmetries=symmetries(LINIO2))).all()
