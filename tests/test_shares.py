"""Shares of two grains in one pattern: mixtures of known patterns, from what the grains around them show."""

import functools

import numpy as np
import pytest
import torch

from dpcurate.overlap import clear_polar
from dpcurate.polar import polar_transform
from dpcurate.shares import MOST_GRAINS, NEAR, core, near_boundary, shares_of, smooth
from tests.drawn_spots import draw_spots

SHAPE, CENTER_XY = (64, 64), (31.5, 32.2)
DOSE = 4000
"""Electrons in the spots of a pattern, a tenth of them outside the rings."""


@functools.cache
def transform(masked=False):
    mask = np.zeros(SHAPE, bool)
    mask[28:36, :30] = masked
    return polar_transform(
        SHAPE,
        center_xy=CENTER_XY,
        scale_inv_angstrom=0.04,
        k_min_inv_angstrom=0.15,
        k_max_inv_angstrom=1.1,
        n_radius=48,
        n_azimuth=180,
        mask=mask,
    )


@functools.cache
def pure(grain):
    """Expected counts of a grain's pattern without its background."""
    rng = np.random.default_rng(grain)
    angle, radius = rng.uniform(0, 2 * np.pi, 30), rng.uniform(5, 29, 30)
    place = np.stack([np.cos(angle), np.sin(angle)], axis=1) * radius[:, None] + CENTER_XY
    electrons = rng.lognormal(0, 1, 30)
    share = torch.as_tensor(DOSE * electrons / electrons.sum())
    return draw_spots(torch.as_tensor(place), share, sigma_px=1.1, shape=SHAPE).numpy()


def background():
    row, column = np.indices(SHAPE)
    return 2 * np.exp(-np.hypot(column - CENTER_XY[0], row - CENTER_XY[1]) / 15)


def polar_of(weight, *, seed=0, masked=False):
    """Polar patterns (rows, columns, bins), counted, of grains with these shares, (rows, columns, grains)."""
    rng = np.random.default_rng(seed)
    mean = np.einsum("rcg,ghw->rchw", weight, np.array([pure(k) for k in range(weight.shape[2])])) + background()
    counts = rng.poisson(mean).astype(np.float32)
    flat = clear_polar(counts.reshape(-1, *SHAPE), transform(masked))
    return flat.reshape(*weight.shape[:2], -1)


def side_by_side(first_share, shape=(10, 11)):
    """Two grains whose boundary column holds both: shares, (rows, columns, 2)."""
    middle = shape[1] // 2
    first = np.where(np.arange(shape[1]) < middle, 1.0, 0.0)
    first[middle] = first_share
    return np.broadcast_to(np.stack([first, 1 - first], axis=-1), (*shape, 2))


def share_map(weight, *, pixels=None, **options):
    """Shares (n, grains) that are found at pixels, all near a boundary by default, and these pixels."""
    grain_id = weight.argmax(axis=2).astype(np.int32)
    pixels = np.argwhere(near_boundary(grain_id)) if pixels is None else pixels
    grains, shares = shares_of(polar_of(weight, **options), grain_id, core(grain_id), pixels)
    found = np.zeros((len(pixels), weight.shape[2]))
    for k in range(weight.shape[2]):
        found[:, k] = np.where(grains == k, shares, 0).sum(axis=1)
    return found, pixels, grains, shares, grain_id


@pytest.mark.parametrize("first_share", [0.3, 0.45, 0.7, 0.85])
@pytest.mark.parametrize("masked", [False, True])
def test_mixtures_have_the_shares_that_they_were_made_of(first_share, masked):
    weight = side_by_side(first_share)
    found, pixels, *_ = share_map(weight, masked=masked)
    mixed = pixels[:, 1] == weight.shape[1] // 2
    assert mixed.sum() == 10
    assert np.abs(found[mixed, 0] - first_share).max() < 0.1
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)


def test_pure_patterns_are_their_grains_alone():
    weight = side_by_side(1.0)
    found, pixels, *_ = share_map(weight)
    right = found[np.arange(len(pixels)), weight[tuple(pixels.T)].argmax(axis=1)]
    assert right.min() > 0.9
    assert right.mean() > 0.97


def test_of_three_grains_the_two_in_the_pattern_are_found():
    weight = np.zeros((13, 13, 3))
    weight[:6, :, 0] = 1
    weight[6:, :6, 1] = 1
    weight[6:, 6:, 2] = 1
    weight[7, 6] = (0, 0.4, 0.6)
    weight[5, 9] = (0.7, 0, 0.3)
    found, *_ = share_map(weight, pixels=np.array([[7, 6], [5, 9]]))
    np.testing.assert_allclose(found, [[0, 0.4, 0.6], [0.7, 0, 0.3]], atol=0.12)


def test_a_grain_without_core_is_known_by_all_its_pixels():
    weight = side_by_side(1.0, (9, 12))
    weight = np.concatenate([weight, np.zeros((9, 12, 1))], axis=2)
    weight[:, 6] = (0, 0, 1)
    found, pixels, *_, grain_id = share_map(weight)
    assert core(grain_id)[:, 6].all()
    assert not core(grain_id)[:, 5].any()
    assert found[pixels[:, 1] == 6, 2].min() > 0.9


def test_a_grain_of_one_pixel_keeps_it():
    weight = side_by_side(1.0, (9, 12))
    weight = np.concatenate([weight, np.zeros((9, 12, 1))], axis=2)
    weight[4, 3] = (0, 0, 1)
    found, *_ = share_map(weight, pixels=np.array([[4, 3]]))
    np.testing.assert_allclose(found, [[0, 0, 1]])


def test_a_pattern_that_is_like_no_grain_has_no_shares():
    weight = side_by_side(1.0)
    patterns = polar_of(weight)
    patterns[4, 5] = -patterns[4, 1]
    grain_id = weight.argmax(axis=2).astype(np.int32)
    grains, shares = shares_of(patterns, grain_id, core(grain_id), np.array([[4, 5]]))
    assert np.isfinite(shares).all()
    assert shares[grains == 0].sum() == 0


def test_smoothing_keeps_maps_of_pure_grains_as_they_are():
    row, column = np.indices((24, 30))
    grain_id = np.where(column < 10, 0, np.where(row < 11, 1, 2)).astype(np.int32)
    grain_id[14:20, 18:25] = 3
    pixels = np.argwhere(near_boundary(grain_id))
    grains = np.full((len(pixels), MOST_GRAINS), -1, np.int32)
    grains[:, 0] = grain_id[tuple(pixels.T)]
    shares = np.where(grains >= 0, np.float32(1), np.float32(0))
    found = smooth(grain_id, pixels, grains, shares)
    np.testing.assert_array_equal(found.first, grain_id)
    np.testing.assert_allclose(found.weight[~near_boundary(grain_id)], 1, atol=1e-5)
    assert found.weight.min() >= 0.5
    assert (found.second != found.first).all()


def test_smoothing_moves_a_boundary_to_where_the_shares_say():
    weight = side_by_side(0.8, (10, 14))
    grain_id = (np.arange(14) >= 7).astype(np.int32)[None].repeat(10, axis=0)
    wrong = np.where(np.arange(14) == 7, 1, grain_id)
    pixels = np.argwhere(near_boundary(wrong))
    grains, shares = shares_of(polar_of(weight), wrong, core(wrong), pixels)
    found = smooth(wrong, pixels, grains, shares)
    assert (found.first[:, 7] == 0).all()
    assert (found.first[:, 8] == 1).all()
    assert (found.second[:, 7] == 1).all()
    assert found.weight[:, 7].mean() == pytest.approx(0.7, abs=0.1)


def test_skipped_pixels_are_in_no_grain_and_bound_nothing():
    grain_id = np.zeros((12, 12), np.int32)
    grain_id[5, 5] = -1
    assert not near_boundary(grain_id).any()
    grain_id[:, 8:] = 1
    pixels = np.argwhere(near_boundary(grain_id))
    assert (grain_id[tuple(pixels.T)] >= 0).all()
    assert np.abs(pixels[:, 1] - 7.5).max() == NEAR - 0.5
    weight = np.stack([grain_id < 1, grain_id == 1], axis=-1).astype(float)
    patterns = polar_of(weight)
    patterns[5, 5] = np.nan
    found = smooth(grain_id, pixels, *shares_of(patterns, grain_id, core(grain_id), pixels))
    assert found.first[5, 5] == found.second[5, 5] == -1
    assert found.weight[5, 5] == 1
    np.testing.assert_array_equal(found.first, grain_id)
    assert np.isfinite(found.weight).all()
    assert not core(np.full((4, 4), -1, np.int32)).any()


def test_bins_without_pixels_are_nothing_and_do_not_shift_their_ring():
    counts = np.full((1, *SHAPE), 7, np.float32)
    assert np.abs(clear_polar(counts, transform(masked=True))).max() < 1e-4
    valid = transform(masked=True).valid.numpy().ravel()
    assert (~valid).sum() > 50
    spots = np.random.default_rng(0).poisson(pure(0) + 5)[None].astype(np.float32)
    found = clear_polar(spots, transform(masked=True))[0]
    assert (found[~valid] == 0).all()
    whole = clear_polar(spots, transform())[0]
    far = np.abs(np.arange(180) - 90) > 60
    both = valid.reshape(48, 180)[:, far]
    difference = (found - whole).reshape(48, 180)[:, far][both]
    assert np.abs(difference).mean() < 0.3
