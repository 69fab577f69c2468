"""Measurements of patterns, against patterns made with numpy alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpcurate.bad_patterns import dead_pixels, hot_pixels
from dpcurate.pattern_features import direct_beam, gain_and_noise, measure

SIZE, SCALE = 96, 0.025
MIDDLE = (48.0, 47.0)
Y, X = np.mgrid[:SIZE, :SIZE]


def blob(x: float, y: float, *, sigma: float, electrons: float) -> np.ndarray:
    """A round Gaussian of so many electrons."""
    return electrons / (2 * np.pi * sigma**2) * np.exp(-((X - x) ** 2 + (Y - y) ** 2) / (2 * sigma**2))


SPOTS = [(70.0, 47.0), (48.0, 75.0), (25.3, 30.6), (80.0, 80.0)]
SHARES = np.array([0.08, 0.04, 0.02, 0.02])


def expected(dose: float = 20_000.0) -> np.ndarray:
    """Direct beam 0.54, background 0.3, four spots."""
    image = blob(*MIDDLE, sigma=1.4, electrons=0.54 * dose) + blob(*MIDDLE, sigma=14, electrons=0.3 * dose)
    for (x, y), share in zip(SPOTS, SHARES, strict=True):
        image = image + blob(x, y, sigma=1.4, electrons=share * dose)
    return image


def counted(image: np.ndarray, n: int, seed: int = 0) -> np.ndarray:
    """Poisson counts."""
    return np.random.default_rng(seed).poisson(image, (n, *image.shape))


@settings(max_examples=25, deadline=None)
@given(st.floats(44, 52), st.floats(44, 52), st.floats(1.0, 2.2))
def test_the_direct_beam_is_found_where_it_was_put(x: float, y: float, sigma: float) -> None:
    image = blob(x, y, sigma=sigma, electrons=8000) + blob(*MIDDLE, sigma=20, electrons=3000)
    place, width = direct_beam(image[None], center_xy=MIDDLE)
    np.testing.assert_allclose(place[0], (x, y), atol=0.02)
    assert width[0] == pytest.approx(sigma, rel=0.05)


def test_spots_background_and_counts_are_measured_as_they_were_made() -> None:
    found = measure(counted(expected(), 30), scale_inv_angstrom=SCALE, center_xy=MIDDLE)
    assert np.median(found.total) == pytest.approx(20_000, rel=0.01)
    assert np.median(found.spot_count) == len(SPOTS)
    np.testing.assert_allclose(np.median(found.spot_share[:, :4], axis=0), SHARES, rtol=0.15)
    assert np.median(found.spot_sigma_px) == pytest.approx(1.4, rel=0.1)
    assert np.median(found.background_share) == pytest.approx(0.3, rel=0.07)
    # Rayleigh's mean of the background, of which the frame cuts off little
    assert np.median(found.background_radius) == pytest.approx(14 * SCALE * np.sqrt(np.pi / 2), rel=0.07)


def test_no_spot_is_found_in_noise_alone() -> None:
    image = blob(*MIDDLE, sigma=1.4, electrons=9000) + blob(*MIDDLE, sigma=14, electrons=4000)
    found = measure(counted(image, 40), scale_inv_angstrom=SCALE, center_xy=MIDDLE)
    assert found.spot_count.mean() < 0.5
    assert np.isnan(found.spot_sigma_px[found.spot_count == 0]).all()


def test_profile_and_medians_add_up_and_follow_the_background() -> None:
    found = measure(counted(expected(), 20), scale_inv_angstrom=SCALE, center_xy=MIDDLE)
    np.testing.assert_allclose(np.nansum(found.profile * found.pixels, axis=1), 1, rtol=1e-9)
    truth = 0.3 / (2 * np.pi * 14**2) * np.exp(-(np.arange(10, 25) ** 2) / (2 * 14**2))
    np.testing.assert_allclose(found.background[:, 10:25].mean(axis=0), truth, rtol=0.1)
    np.testing.assert_allclose(found.ring_median[:, 10:25].mean(axis=0), truth, rtol=0.25)


def test_a_gain_changes_nothing_but_the_unit() -> None:
    counts = counted(expected(), 5)
    one = measure(counts, scale_inv_angstrom=SCALE, center_xy=MIDDLE)
    many = measure(counts * 7, scale_inv_angstrom=SCALE, center_xy=MIDDLE, gain=7.0)
    np.testing.assert_allclose(many.total, one.total)
    np.testing.assert_array_equal(many.spot_count, one.spot_count)
    np.testing.assert_allclose(many.background, one.background, rtol=1e-9)


def test_hot_and_dead_pixels_are_found_and_a_still_beam_is_not_hot() -> None:
    counts = counted(expected(5000.0), 60)
    hot, dead = hot_pixels(counts), dead_pixels(counts)
    assert not hot.any()
    assert not dead.any()
    counts[:, 10, 80], counts[:, 48, 30] = 50, 0
    counts[:, 20, 20] = np.random.default_rng(1).poisson(30, 60)
    hot, dead = hot_pixels(counts), dead_pixels(counts)
    assert set(zip(*np.nonzero(hot), strict=True)) == {(10, 80), (20, 20)}
    assert set(zip(*np.nonzero(dead), strict=True)) == {(48, 30)}
    mended = measure(counts, scale_inv_angstrom=SCALE, center_xy=MIDDLE, faulty=hot | dead)
    assert np.median(mended.spot_count) == len(SPOTS)


@pytest.mark.parametrize(("gain", "noise"), [(1.0, 0.0), (20.0, 6.0), (2.5, 0.0)])
def test_gain_and_readout_noise_come_from_the_variance(gain: float, noise: float) -> None:
    rng = np.random.default_rng(3)
    counts = counted(expected(60_000.0), 40) * gain + rng.normal(0, max(noise, 1e-12), (40, SIZE, SIZE))
    found = gain_and_noise(counts, center_xy=MIDDLE)
    assert found[0] == pytest.approx(gain, rel=0.1)
    assert found[1] == pytest.approx(noise, abs=0.15 * gain)
