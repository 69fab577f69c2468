"""Counts say which spots made them: true ones are likelier than moved, missing or added ones."""

import numpy as np
import pytest
import torch

from dpcurate.correlate import Frame, pattern_harmonics, ring_weight
from dpcurate.likelihood import SCALES, SHAPE_ERROR, SPOT_ERROR, log_likelihood, ring_background
from dpcurate.picture_reading import picture_place, read_between, spot_norms
from dpcurate.refine import PICTURE_ANGLES, Climbers, local_grid, scores_at, spot_kernels, spot_pictures
from tests.drawn_spots import draw_spots

SHAPE, CENTER_XY, SIGMA_PX = (64, 60), (29.3, 32.6), 1.1
EVERYWHERE = torch.ones(SHAPE, dtype=torch.bool)
TRIALS = 40


def spots_of(seed, *, n=14):
    """Places (n, 2) on the detector and electrons (n,) of a pattern."""
    rng = np.random.default_rng(seed)
    angle, radius = rng.uniform(0, 2 * np.pi, n), rng.uniform(8, 26, n)
    place = np.stack([np.cos(angle), np.sin(angle)], axis=1) * radius[:, None] + CENTER_XY
    return torch.as_tensor(place, dtype=torch.float32), torch.as_tensor(rng.lognormal(4, 0.7, n)).float()


def background():
    row, column = np.indices(SHAPE)
    return torch.as_tensor(3 * np.exp(-np.hypot(column - CENTER_XY[0], row - CENTER_XY[1]) / 12)).float()


def drawn(place, electrons):
    return draw_spots(place, electrons, sigma_px=SIGMA_PX, shape=SHAPE)


def likely(counts, ground, place, electrons, *, where=EVERYWHERE, **errors):
    """Log-likelihood of one set of spots (k, 2), (k,), or of several at once."""
    together = place.ndim == 3
    place, electrons = (place, electrons) if together else (place[None], electrons[None])
    found = log_likelihood(counts, ground, place, electrons, sigma_px=SIGMA_PX, counted=where, **errors)
    return found if together else float(found[0])


def counted(mean, seed):
    return torch.poisson(mean, generator=torch.Generator().manual_seed(seed))


def wins_of(changed, *, scale=1.0):
    """Share of trials in which the spots of a pattern are likelier than ``changed`` ones."""
    wins = 0
    for seed in range(TRIALS):
        place, electrons = spots_of(seed)
        counts = counted(background() + scale * drawn(place, electrons), seed)
        ground = ring_background(counts[None], center_xy=CENTER_XY)[0]
        other = changed(place, electrons, seed)
        wins += int(likely(counts, ground, place, electrons) > likely(counts, ground, *other))
    return wins / TRIALS


def moved(place, electrons, _):
    return place + torch.tensor([1.0, -1.0]), electrons


def one_missing(place, electrons, _):
    """One of middling brightness."""
    kept = electrons.argsort() != len(electrons) // 2
    return place[kept], electrons[kept]


def one_added(place, electrons, seed):
    extra, _ = spots_of(seed + 1000, n=1)
    return torch.cat([place, extra]), torch.cat([electrons, electrons.median()[None]])


def shuffled(place, electrons, seed):
    return place, electrons[torch.randperm(len(electrons), generator=torch.Generator().manual_seed(seed))]


@pytest.mark.parametrize("changed", [moved, one_missing, one_added, shuffled])
def test_true_spots_are_likelier_than_wrong_ones(changed):
    assert wins_of(changed) >= 0.95


@pytest.mark.parametrize("scale", [0.4, 1.3])
def test_true_spots_win_whatever_share_of_the_electrons_is_in_them(scale):
    assert wins_of(shuffled, scale=scale) >= 0.95


def test_spots_are_scaled_as_fits_best_within_limits():
    place, electrons = spots_of(1)
    counts = background() + drawn(place, electrons)
    within = torch.tensor([1 / 0.3, 1.0, 1 / 1.4])[:, None]
    found = likely(counts, background(), place.expand(3, -1, -1), within * electrons)
    assert (found - found[1]).abs().max() < 0.02 * len(electrons)
    beyond = torch.tensor([0.1 / SCALES[1], 10 / SCALES[0]])[:, None]
    far = likely(counts, background(), place.expand(2, -1, -1), beyond * electrons)
    assert (far < found[1] - 5).all()


@pytest.mark.parametrize("apart_px", [30.0, 3.0, 1.5, 0.0])
def test_it_is_the_normal_density_of_square_roots_whose_spots_are_wrong_by_shares(apart_px):
    rng = np.random.default_rng(0)
    place = torch.tensor([[14.2, 12.7], [40.6, 20.1], [40.6 + apart_px, 20.1]])
    electrons = torch.tensor([400.0, 900.0, 250.0])
    where = torch.as_tensor(rng.random(SHAPE) < 0.8)
    counts = counted(background() + drawn(place, electrons * torch.tensor([1.2, 0.85, 1.05])), 1)
    found = [likely(counts, background(), place, electrons * k, where=where) for k in (1.0, 2.0)]
    assert found[0] == pytest.approx(found[1], abs=0.02)
    one = torch.stack([drawn(place[k : k + 1], electrons[k : k + 1]) for k in range(3)]).double()[:, where]
    seen, ground = counts.double()[where], background().double()[where]
    weight = 1 / (ground + one.sum(0))
    one *= ((seen - ground) * one.sum(0) * weight).sum() / (one.sum(0).square() * weight).sum()
    mean = ground + one.sum(0)
    pixel = (1 + (SHAPE_ERROR * one.sum(0)).square() / mean) / 4
    wrong = SPOT_ERROR * one / (2 * mean.sqrt())
    normal = torch.distributions.LowRankMultivariateNormal(mean.sqrt(), wrong.T, pixel)
    constant = len(seen) / 2 * np.log(4 / (2 * np.pi))
    assert found[0] == pytest.approx(float(normal.log_prob(seen.sqrt())) - constant, abs=0.05)


def test_several_at_once_are_as_one_by_one():
    sets = [spots_of(seed) for seed in range(4)]
    counts = counted(background() + drawn(*sets[2]), 2)
    together = likely(counts, background(), *(torch.stack(part) for part in zip(*sets, strict=True)))
    assert int(together.argmax()) == 2
    np.testing.assert_allclose(together, [likely(counts, background(), *one) for one in sets], rtol=1e-4)


def test_the_background_around_the_beam_is_found_below_spots():
    place, electrons = spots_of(3)
    mean = 10 * background()
    counts = torch.stack([counted(mean + 10 * drawn(place, electrons), seed) for seed in range(4)])
    found = ring_background(counts, center_xy=CENTER_XY)
    row, column = np.indices(SHAPE)
    radius = np.hypot(column - CENTER_XY[0], row - CENTER_XY[1])
    ring = torch.as_tensor((radius > 6) & (radius < 28))
    ratio = (found / mean)[:, ring]
    assert float((ratio - 1).abs().mean()) < 0.12
    assert float(ratio.mean()) == pytest.approx(1, abs=0.06)


def test_nothing_counted_is_a_background_above_nothing_and_no_likelihood_is_nan():
    empty = torch.zeros(1, *SHAPE)
    ground = ring_background(empty, center_xy=CENTER_XY)
    assert float(ground.min()) > 0
    place, electrons = spots_of(4)
    found = likely(empty[0], ground[0], place.expand(2, -1, -1), torch.stack([electrons, torch.zeros_like(electrons)]))
    assert found.isfinite().all()
    assert found[1] > found[0]


def test_pixels_that_do_not_count_tell_nothing():
    place, electrons = spots_of(5)
    half = EVERYWHERE.clone()
    half[:, :30] = False
    counts = counted(background() + drawn(place, electrons), 3)
    changed = torch.where(half, counts, counts + 40)
    first, second = (likely(one, background(), place, electrons, where=half) for one in (counts, changed))
    assert first == pytest.approx(second, abs=1e-3)
    assert likely(changed, background(), place, electrons) < first - 100
    none = torch.zeros_like(half)
    assert likely(counts, background(), place, electrons, where=none) == 0


def test_pictures_read_freely_score_as_the_local_grid_does():
    k = torch.linspace(0.15, 1.3, 48, dtype=torch.float64)
    frame = Frame(k, ring_weight(k, power=0.5), 0.027, 64)
    kernels = spot_kernels(frame)
    rng = np.random.default_rng(0)
    pictures = spot_pictures(
        pattern_harmonics(torch.as_tensor(rng.normal(size=(2, 48, 180)), dtype=torch.float32), 64), kernels
    )
    angle, radius = rng.uniform(-np.pi, np.pi, (9, 12)), rng.uniform(0.2, 1.25, (9, 12))
    q = torch.as_tensor(np.stack([np.cos(angle), np.sin(angle)], axis=-1) * radius[..., None])
    amplitude = torch.as_tensor(rng.uniform(0.1, 1, (9, 12))).float()
    amplitude[:, -2:] = 0
    grid = local_grid(q, amplitude, frame, step_deg=0.5, reach=1, most_spots=12)
    zero = torch.zeros(2, 1, dtype=torch.int64)
    climbers = Climbers(zero, zero + 1, torch.zeros(2, 1, 2, dtype=torch.int64), zero, torch.zeros(2, 1))
    turns = torch.tensor([-200, 0, 3])
    tilt = torch.tensor([[u, v] for u in (-1, 0, 1) for v in (-1, 0, 1)])
    expected = torch.stack(
        [
            scores_at(
                pictures,
                grid,
                climbers,
                tilt=tilt.expand(2, 1, 9, 2),
                angle=(zero + turn)[..., None].expand(2, 1, 9),
                exact=True,
            )[:, 0]
            for turn in turns
        ],
        dim=-1,
    )
    place = picture_place(q, frame)
    value = read_between(pictures, *place, turns)
    norm = spot_norms(q, amplitude[:, None], place[0], frame, kernels)
    found = torch.einsum("pnkr,nk->pnr", value, amplitude) / norm
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
    assert float((found[:, 1:] - expected[:, :-1]).abs().max()) > 0.01
    whole = read_between(pictures, *place, torch.tensor([0, PICTURE_ANGLES]))
    np.testing.assert_allclose(whole[..., 0], whole[..., 1], atol=1e-4)
