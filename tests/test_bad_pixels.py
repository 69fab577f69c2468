"""Dead and hot pixels of a detector: found where they are, and nowhere else."""

import numpy as np
import pytest

from dpcurate.bad_patterns import dead_pixels, faulty_lines, faulty_pixels, hot_pixels

SIZE = 64
Y, X = np.mgrid[:SIZE, :SIZE]
RADIUS = np.hypot(X - 31.5, Y - 31.5)


def counts(n=100, seed=0):
    """Poisson counts of a direct beam and a background that fades to one electron in 30 patterns at the corners."""
    level = 400 * np.exp(-(RADIUS**2) / 8) + 2 * np.exp(-RADIUS / 11)
    return np.random.default_rng(seed).poisson(level, (n, SIZE, SIZE)).astype(np.uint16)


def broken(kind):
    """Patterns with a fault, and the mask of it."""
    patterns, mask = counts(), np.zeros((SIZE, SIZE), bool)
    where = {"pixel": np.s_[40, 20], "column": np.s_[:, 20], "row": np.s_[50], "gap": np.s_[:, 30:34]}[kind]
    mask[where] = True
    patterns[:, mask] = 0
    return patterns, mask


def test_a_sound_detector_has_no_faulty_pixel():
    assert not faulty_pixels(counts()).any()
    assert not faulty_pixels(counts(n=30)).any()


@pytest.mark.parametrize("kind", ["pixel", "column", "row", "gap"])
def test_what_is_dead_is_found_whole_and_nothing_else(kind):
    patterns, mask = broken(kind)
    assert (dead_pixels(patterns) == mask).all()
    assert not hot_pixels(patterns).any()


@pytest.mark.parametrize("value", [7, 0])
def test_a_pixel_need_not_be_zero_to_be_dead(value):
    patterns = counts().astype(np.float32) + 7
    patterns[:, :, 20] = value
    assert faulty_lines(dead_pixels(patterns))[0].tolist() == [20]


def test_a_pixel_that_is_never_finite_is_dead_and_one_that_is_so_once_is_not():
    patterns = counts().astype(np.float32)
    patterns[:, 30, 20], patterns[5, 20, 30] = np.nan, np.inf
    assert np.argwhere(dead_pixels(patterns)).tolist() == [[30, 20]]


def test_a_broken_chip_is_found_where_its_neighbours_count():
    patterns = counts(n=400)
    patterns[:, 32:, 32:] = 0
    found = dead_pixels(patterns)
    assert found[32:, 32:].mean() > 0.95
    assert not found[:32].any()
    assert not found[:, :32].any()


def test_a_saturated_beam_is_not_dead():
    patterns = np.minimum(counts(), 50)
    patterns[:, RADIUS < 3] = 50
    assert not dead_pixels(patterns).any()


def test_hot_pixels_and_columns_are_found_and_spots_are_not():
    patterns = counts()
    patterns[:, 10, 12] += 60
    patterns[:, :, 44] += np.random.default_rng(1).poisson(30, (100, SIZE)).astype(np.uint16)
    patterns[:, 20:23, 40:43] += 30
    found = hot_pixels(patterns)
    assert found[10, 12]
    assert found[:, 44].all()
    assert found.sum() == SIZE + 1


def test_a_sample_may_have_any_leading_axes():
    patterns, mask = broken("column")
    assert (dead_pixels(patterns.reshape(10, 10, SIZE, SIZE)) == mask).all()
