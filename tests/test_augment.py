import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dpcurate import orientations
from dptrain.augment import Change, canonical, change_label, draw_change, no_change, uniform_draws
from dptrain.config import AugmentConfig, InputConfig
from tests.conftest import CUBIC, TRIGONAL, reciprocal_vectors

torch.set_num_threads(1)  # several workers of pytest share the cores

SCALE, SIZE = 0.03, 64
FRAME = InputConfig(size=SIZE, k_max=0.9, k_min=0.0, power=1.0, frame="cartesian")
seeds = st.integers(0, 10_000)


def render(g, record=TRIGONAL, *, shape=(80, 90), center=(44.3, 38.8), scale=SCALE):
    """Broad spots of one orientation at exact places, shape (1, rows, columns)."""
    q = reciprocal_vectors(record) @ orientations.to_matrix(g)
    weight = np.exp(-np.square(q[:, 2] / 0.04))
    x, y = center[0] + q[:, 0] / scale, center[1] + q[:, 1] / scale
    rows, columns = np.indices(shape)
    distance2 = (columns[..., None] - x) ** 2 + (rows[..., None] - y) ** 2
    return torch.tensor((weight * np.exp(-distance2 / (2 * (0.06 / scale) ** 2))).sum(-1), dtype=torch.float32)[None]


def frame_of(patterns, change, *, center=(44.3, 38.8), scale=SCALE, config=FRAME):
    return canonical(patterns, center_xy=[center], scale=[scale], config=config, change=change)[0, 0]


def inner(frame):
    """Pixels well inside the circle that every turn shows."""
    axis = np.arange(SIZE) - (SIZE - 1) / 2
    return frame[np.hypot(axis[:, None], axis) < 0.4 * SIZE].double()


def correlation(a, b):
    return float(torch.corrcoef(torch.stack([inner(a), inner(b)]))[0, 1])


def one_change(angle=0.0, *, mirror=False, scale=1.0, shift=(0.0, 0.0)):
    return Change(np.array([angle]), np.array([mirror]), np.array([scale]), np.array([shift]))


@settings(max_examples=15, deadline=None)
@given(seed=seeds, angle=st.floats(-180, 180), mirror=st.booleans(), cubic=st.booleans())
def test_a_changed_pattern_is_the_pattern_of_the_changed_label(seed, angle, mirror, cubic):
    record = CUBIC if cubic else TRIGONAL
    g = orientations.random_uniform(1, seed=seed)
    change = one_change(angle, mirror=mirror)
    changed = frame_of(render(g[0], record), change)
    expected = frame_of(render(change_label(g, change)[0], record), no_change(1))
    assert correlation(changed, expected) > 0.98


@pytest.mark.parametrize("wrong", [one_change(-40.0, mirror=True), one_change(40.0)])
def test_a_label_turned_the_other_way_or_not_mirrored_is_noticed(wrong):
    g = orientations.random_uniform(1, seed=8)
    changed = frame_of(render(g[0]), one_change(40.0, mirror=True))
    assert correlation(changed, frame_of(render(change_label(g, wrong)[0]), no_change(1))) < 0.9


def test_every_detector_gives_the_same_frame():
    g = orientations.random_uniform(1, seed=2)[0]
    coarse = frame_of(render(g), no_change(1))
    fine = render(g, shape=(160, 150), center=(70.0, 80.5), scale=0.013)
    assert correlation(coarse, frame_of(fine, no_change(1), center=(70.0, 80.5), scale=0.013)) > 0.98


def test_a_spot_lies_where_the_frame_says():
    pattern = torch.zeros(1, 80, 90)
    pattern[0, 50, 64] = 1.0  # q = (20, 10) pixels from a direct beam at (44, 40)
    frame = frame_of(pattern, no_change(1), center=(44.0, 40.0)).clamp(min=0)
    i, j = np.indices((SIZE, SIZE))
    x, y = ((frame * torch.tensor(value)).sum() / frame.sum() for value in (j, i))
    pixel = 2 * 0.9 / SIZE
    assert float(x) == pytest.approx((SIZE - 1) / 2 + 20 * SCALE / pixel, abs=0.3)
    assert float(y) == pytest.approx((SIZE - 1) / 2 + 10 * SCALE / pixel, abs=0.3)


def test_the_direct_beam_is_masked_and_frames_are_standardised():
    g = orientations.random_uniform(1, seed=3)[0]
    config = FRAME.model_copy(update={"k_min": 0.2, "power": 0.5})
    frame = frame_of(render(g), no_change(1), config=config)
    axis = (np.arange(SIZE) - (SIZE - 1) / 2) * 2 * 0.9 / SIZE
    masked = frame[np.hypot(axis[:, None], axis) < 0.2]
    assert masked.std() < 1e-6
    assert float(frame.mean()) == pytest.approx(0, abs=1e-5)
    assert float(frame.std()) == pytest.approx(1, abs=1e-3)


def test_an_empty_pattern_gives_an_empty_frame():
    assert frame_of(torch.zeros(1, 40, 40), no_change(1)).abs().max() == 0


@settings(max_examples=20, deadline=None)
@given(index=st.lists(st.integers(0, 10**7), min_size=2, max_size=30, unique=True), seed=seeds, epoch=seeds)
def test_what_a_sample_draws_does_not_depend_on_its_batch(index, seed, epoch):
    together = uniform_draws(np.array(index), seed=seed, epoch=epoch)
    apart = np.concatenate([uniform_draws(np.array([i]), seed=seed, epoch=epoch) for i in index])
    assert np.array_equal(together, apart)
    assert len(np.unique(together)) == together.size
    assert not np.array_equal(together, uniform_draws(np.array(index), seed=seed, epoch=epoch + 1))


def test_draws_are_uniform_and_changes_as_wide_as_asked():
    u = uniform_draws(np.arange(20_000), seed=1, epoch=2)
    assert u.mean(axis=0) == pytest.approx(0.5, abs=0.01)
    assert u.std(axis=0) == pytest.approx(12**-0.5, abs=0.01)
    assert np.abs(np.corrcoef(u.T) - np.eye(u.shape[1])).max() < 0.03
    change = draw_change(np.arange(20_000), AugmentConfig(), seed=1, epoch=2)
    assert change.mirror.mean() == pytest.approx(0.5, abs=0.02)
    assert np.log(change.scale).std() == pytest.approx(0.01, rel=0.05)
    assert change.shift.std() == pytest.approx(0.5, rel=0.05)
    still = AugmentConfig(turn=False, mirror=False, scale_sd=0, shift_sd_pixels=0)
    change, none = draw_change(np.arange(5), still, seed=1, epoch=2), no_change(5)
    assert all(np.array_equal(getattr(change, name), getattr(none, name)) for name in vars(none))
