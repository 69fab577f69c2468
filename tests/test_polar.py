import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dpcurate import orientations
from dptrain.augment import change_label, frame_shape, no_change
from dptrain.config import HeadConfig, InputConfig
from dptrain.heads import build_head
from dptrain.models import build_network
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


@laws
@given(seed=seeds, steps=st.integers(1, 31), name=st.sampled_from(["density", "harmonics", "rotation"]))
def test_a_turned_pattern_has_exactly_the_turned_outputs(seed, steps, name):
    torch.manual_seed(seed)
    head = build_head([CUBIC, TRIGONAL], HeadConfig(name=name, max_cells=300))
    network = polar_cnn(head.n_outputs, size=SIZE, orders=head.orders).eval()
    frame = torch.randn(1, 1, 32, 128)
    with torch.no_grad():
        plain, turned = network(torch.cat([frame, frame.roll(AZIMUTH_STRIDE * steps, -1)])).double().numpy()
    angle, orders, place = np.radians(AZIMUTH_STRIDE * steps * STEP_DEG), head.orders, 0
    while place < len(orders):
        width = 1 if orders[place] == 0 else 2
        first, second = (values[place : place + width] @ np.array([1, 1j])[:width] for values in (plain, turned))
        assert second == pytest.approx(first * np.exp(1j * angle * orders[place]), abs=1e-5)
        place += width


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


@pytest.mark.parametrize("name", ["grid", "density", "euler", "rotation", "harmonics"])
@pytest.mark.parametrize("size", [32, 96])
def test_the_polar_network_learns_in_all_its_weights_with_every_head(name, size):
    torch.manual_seed(0)
    options = {"input": {"size": size, "frame": "polar"}, "head": {"name": name, "max_cells": 200}}
    config = requested_config("cnn", options)
    head = build_head([CUBIC], config.head)
    network = build_network(config, n_outputs=head.n_outputs, orders=head.orders)
    outputs = network(torch.randn(4, 1, *frame_shape(config.input)))
    assert outputs.shape == (4, head.n_outputs)
    head.loss(outputs, torch.tensor(orientations.random_uniform(4, seed=0)), torch.zeros(4)).sum().backward()
    assert [key for key, weight in network.named_parameters() if weight.grad is None] == []
