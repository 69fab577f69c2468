import functools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dpcurate import orientations
from dptrain.augment import change_label, frame_shape, no_change
from dptrain.backbones import swin_tiny
from dptrain.config import HeadConfig, InputConfig
from dptrain.heads import build_head
from dptrain.models import build_network
from dptrain.polar_backbones import COLUMNS, RadialMerging, fitted_window, polar_swin_tiny, radial_mask, swin_shapes
from dptrain.polar_cnn import AZIMUTH_STRIDE, TurningPool, polar_cnn
from dptrain.runs import requested_config
from tests.conftest import CUBIC, TRIGONAL
from tests.test_augment import frame_of, one_change, render

torch.set_num_threads(1)  # several workers of pytest share the cores

SIZE = 64
POLAR = InputConfig(size=SIZE, k_max=0.9, k_min=0.0, power=1.0, frame="polar")
STEP_DEG = 180 / SIZE

laws = settings(max_examples=15, deadline=None)
seeds = st.integers(0, 10_000)


@functools.cache
def head_of(name):
    return build_head([CUBIC, TRIGONAL], HeadConfig(name=name, max_cells=300))


def correlation(a, b):
    return float(torch.corrcoef(torch.stack([a.double().flatten(), b.double().flatten()]))[0, 1])


def test_the_polar_frame_has_half_as_many_radii_and_twice_as_many_azimuths():
    assert frame_shape(POLAR) == (32, 128)
    pattern = torch.zeros(1, 80, 90)
    pattern[0, 50, 64] = 1.0  # q = (20, 10) pixels from a direct beam at (44, 40)
    frame = frame_of(pattern, no_change(1), center=(44.0, 40.0), config=POLAR).clamp(min=0)
    assert frame.shape == (32, 128)
    i, j = np.indices((32, 128))
    radius, azimuth = (float((frame * torch.tensor(value)).sum() / frame.sum()) for value in (i, j))
    assert (radius + 0.5) * 2 * 0.9 / SIZE == pytest.approx(np.hypot(20, 10) * 0.03, abs=0.01)
    assert azimuth * STEP_DEG == pytest.approx(np.degrees(np.arctan2(10, 20)), abs=1.5)


@laws
@given(seed=seeds, columns=st.integers(-64, 64))
def test_a_turn_by_whole_columns_is_a_shift(seed, columns):
    pattern = render(orientations.random_uniform(1, seed=seed)[0])
    plain = frame_of(pattern, no_change(1), config=POLAR)
    turned = frame_of(pattern, one_change(columns * STEP_DEG), config=POLAR)
    assert torch.allclose(turned, plain.roll(columns, -1), atol=1e-2)
    assert correlation(turned, plain.roll(columns, -1)) > 0.9999


@laws
@given(seed=seeds, angle=st.floats(-180, 180), mirror=st.booleans())
def test_a_changed_pattern_is_the_pattern_of_the_changed_label_in_the_polar_frame_too(seed, angle, mirror):
    g, change = orientations.random_uniform(1, seed=seed), one_change(angle, mirror=mirror)
    changed = frame_of(render(g[0]), change, config=POLAR)[2:24]
    expected = frame_of(render(change_label(g, change)[0]), no_change(1), config=POLAR)[2:24]
    assert correlation(changed, expected) > 0.97


def turned_outputs(outputs, angle_deg, orders):
    """Outputs (n, n_outputs) as they must be for patterns that are turned."""
    found, place = outputs.clone(), 0
    while place < len(orders):
        if orders[place]:
            pair = torch.complex(outputs[:, place], outputs[:, place + 1])
            pair = pair * np.exp(1j * np.radians(angle_deg) * orders[place])
            found[:, place], found[:, place + 1] = pair.real, pair.imag
        place += 2 if orders[place] else 1
    return found


@laws
@given(seed=seeds, steps=st.integers(1, 31), name=st.sampled_from(["density", "harmonics", "rotation"]))
def test_a_turned_pattern_has_exactly_the_turned_outputs(seed, steps, name):
    torch.manual_seed(seed)
    head = head_of(name)
    network = polar_cnn(head.n_outputs, size=SIZE, orders=head.orders).eval()
    frame = torch.randn(1, 1, 32, 128)
    with torch.no_grad():
        plain, turned = network(torch.cat([frame, frame.roll(AZIMUTH_STRIDE * steps, -1)])).double().split(1)
    expected = turned_outputs(plain, AZIMUTH_STRIDE * steps * STEP_DEG, head.orders)
    assert turned[0].tolist() == pytest.approx(expected[0].tolist(), abs=1e-5)


# Columns of the frame for which the law is exact: of DenseNet's last map, and a window of Swin's second stage.
EXACT = [
    ("densenet121", 32, 4),
    ("densenet121", 64, 8),
    ("swin-tiny-adjusted", 64, 32),
    ("swin-tiny-adjusted", 128, 64),
]


@pytest.mark.parametrize(("name", "size", "columns"), EXACT)
def test_the_laws_of_turns_hold_for_networks_of_images_too(name, size, columns):
    torch.manual_seed(3)
    config = requested_config(name, {"input": {"size": size, "frame": "polar"}, "head": {"max_cells": 200}})
    head = build_head([TRIGONAL], config.head)
    network = build_network(config, n_outputs=head.n_outputs, orders=head.orders).eval()
    frame = torch.randn(2, 1, size // 2, 2 * size)
    with torch.no_grad():
        plain, *turned = (network(frame.roll(steps * columns, -1)) for steps in (0, 1, 3))
        between = network(frame.roll(columns // 2, -1))
    scale = plain.abs().max()
    for steps, found in zip((1, 3), turned, strict=True):
        expected = turned_outputs(plain, steps * columns * 180 / size, head.orders)
        assert (found - expected).abs().max() < 1e-3 * scale
    assert (between - turned_outputs(plain, columns * 90 / size, head.orders)).abs().max() > 1e-3 * scale


def test_swin_windows_fill_its_maps_and_reach_around_the_circle():
    for size in range(32, 320, 32):
        shapes = swin_shapes(size, fitted=True)
        for rows, columns in shapes:
            window = fitted_window((rows, columns))
            assert (rows % window[0], columns % window[1]) == (0, 0)
            assert columns >= COLUMNS
        assert shapes[0] == (size // 8, size // 2)
    network = polar_swin_tiny(4, size=64, fitted=True).backbone
    shift = [block.shift_size for stage in network.layers for block in stage.blocks]
    assert shift[:2] == [(0, 0), (0, 4)]
    assert not any(any(one) for one in shift[2:])  # one window holds the circle
    around = network.layers[3].blocks[0].attn.relative_position_index
    assert around[0, 15] == around[1, 0]
    assert around[0, 1] != around[1, 0]


def test_tokens_of_the_smallest_and_largest_radii_do_not_meet_in_a_shifted_window():
    mask = radial_mask((4, 8), (2, 8), shift=1)
    assert mask.shape == (2, 16, 16)
    assert not mask[0].any()
    ends = torch.arange(16) >= 8
    assert torch.equal(mask[1] < 0, ends[:, None] != ends)
    assert radial_mask((4, 8), (2, 8), shift=0) is None


def test_swin_merges_tokens_as_published_at_every_second_azimuth():
    published = swin_tiny(0, size=64).layers[1].downsample
    tokens = torch.randn(2, 4, 8, published.dim)
    assert torch.allclose(RadialMerging(published)(tokens)[:, :, ::2], published(tokens), atol=1e-5)
    assert RadialMerging(published)(tokens[:, :1]).shape == (2, 1, 8, 2 * published.dim)


@pytest.mark.parametrize("name", ["harmonics", "rotation"])
def test_the_answer_to_a_turned_pattern_is_the_turned_answer(name):
    torch.manual_seed(1)
    head = build_head([TRIGONAL], HeadConfig(name=name))
    network = polar_cnn(head.n_outputs, size=SIZE, orders=head.orders).eval()
    frame = torch.randn(6, 1, 32, 128)
    with torch.no_grad():
        plain, turned = (
            head.decode(network(x), n_best=1)[0][:, 0].double().numpy() for x in (frame, frame.roll(40, -1))
        )
    expected = orientations.turn_pattern(plain, 40 * STEP_DEG)
    assert orientations.disorientation_deg(turned, expected, TRIGONAL.proper_rotations()).max() < 0.1


def test_signals_that_are_not_turned_back_break_the_law():
    torch.manual_seed(0)
    pool = TurningPool(8, [0, 1, 1])
    x = torch.randn(1, 8, 1, 32)
    plain, turned = pool(x)[0].tolist(), pool(x.roll(8, -1))[0].tolist()
    assert turned == pytest.approx([plain[0], -plain[2], plain[1]], abs=1e-6)  # a quarter turn
    pool.orders = torch.zeros(3, dtype=torch.long)
    assert pool(x.roll(8, -1))[0].tolist() == pytest.approx(pool(x)[0].tolist(), abs=1e-6)


@pytest.mark.parametrize("frame", ["polar", "cartesian"])
def test_the_kernel_is_that_of_all_convolutions_after_the_first_that_have_a_side(frame):
    config = requested_config("cnn", {"input": {"frame": frame}, "network": {"kernel": 7}})
    network = build_network(config, n_outputs=3)
    sides = [module.kernel_size for module in network.modules() if isinstance(module, torch.nn.Conv2d)]
    square = [side for side in sides if side[0] > 1]
    assert square == [(5, 5)] + [(7, 7)] * (len(square) - 1)
    assert len(square) > 3
    assert network(torch.zeros(2, 1, *frame_shape(config.input))).shape == (2, 3)


LEARNING = [
    *(("cnn", size, head) for size in (32, 96) for head in ("grid", "density", "euler", "rotation", "harmonics")),
    *(
        (model, 32, head)
        for model in ("densenet121", "swin-tiny", "swin-tiny-adjusted")
        for head in ("grid", "density")
    ),
    ("densenet121", 96, "density"),
    ("swin-tiny", 96, "density"),
    ("swin-tiny-adjusted", 160, "density"),
]


@pytest.mark.parametrize(("model", "size", "name"), LEARNING)
def test_polar_networks_learn_in_all_their_weights_with_every_head(model, size, name):
    torch.manual_seed(0)
    options = {"input": {"size": size, "frame": "polar"}, "head": {"name": name, "max_cells": 200}}
    config = requested_config(model, options)
    head = build_head([CUBIC], config.head)
    network = build_network(config, n_outputs=head.n_outputs, orders=head.orders)
    outputs = network(torch.randn(4, 1, *frame_shape(config.input)))
    assert outputs.shape == (4, head.n_outputs)
    head.loss(outputs, torch.tensor(orientations.random_uniform(4, seed=0)), torch.zeros(4)).sum().backward()
    assert [key for key, weight in network.named_parameters() if weight.grad is None] == []
