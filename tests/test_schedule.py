"""Learning rates, pacing by confidence and averages of weights."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dptrain.config import NetworkConfig, TrainConfig
from dptrain.ema import YOUNG, first_average, update_average
from dptrain.pacing import FIRST_SHARE, paced_order
from dptrain.schedule import learning_rate

TOTAL = 200


def config(**changed):
    return TrainConfig(model="cnn", network=NetworkConfig(architecture="cnn"), epochs=10, **changed)


@pytest.mark.parametrize(("schedule", "end"), [("constant", 1.0), ("exponential", 0.01), ("cosine", 0.0)])
def test_a_rate_rises_then_ends_where_its_schedule_says(schedule, end):
    chosen = config(schedule=schedule)
    rate = np.array([learning_rate(step, total=TOTAL, config=chosen) for step in range(TOTAL)]) / chosen.learning_rate
    assert (np.diff(rate[:10]) > 0).all()
    assert rate.max() == pytest.approx(1)
    assert (np.diff(rate[10:]) <= 0).all()
    assert rate[-1] == pytest.approx(end, abs=3e-3)
    if schedule == "exponential":
        np.testing.assert_allclose(rate[11:] / rate[10:-1], 0.01 ** (1 / 190), rtol=1e-9)


@settings(max_examples=30, deadline=None)
@given(n=st.integers(5, 300), epoch=st.integers(0, 9), order=st.sampled_from(["none", "confident-first", "random"]))
def test_every_epoch_has_as_many_samples_and_shows_none_much_more_often(n, epoch, order):
    confidence = np.random.default_rng(n).random(n)
    shown = paced_order(confidence, config(confidence_order=order), epoch=epoch)
    assert len(shown) == n
    times = np.unique(shown, return_counts=True)[1]
    assert times.max() - times.min() <= 1
    if order == "none" or epoch >= 5:
        assert (np.sort(shown) == np.arange(n)).all()


def test_the_confident_come_first_and_the_control_has_the_same_pacing():
    confidence = np.random.default_rng(0).random(1000)
    first, control = (
        np.unique(paced_order(confidence, config(confidence_order=order), epoch=0))
        for order in ("confident-first", "random")
    )
    assert len(first) == len(control) == FIRST_SHARE * 1000
    assert confidence[first].min() >= np.quantile(confidence, 1 - FIRST_SHARE)
    assert abs(confidence[control].mean() - 0.5) < 0.06


def test_an_average_follows_its_law_and_takes_buffers_as_they_are():
    network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    average = first_average(network)
    expected = network[0].weight.detach().clone()
    for step in range(30):
        with torch.no_grad():
            network[0].weight.normal_()
            network[1].running_mean.normal_()
        update_average(average, network, decay=0.9, step=step)
        decay = min(0.9, (1 + step) / (YOUNG + step))
        expected = decay * expected + (1 - decay) * network[0].weight.detach()
    torch.testing.assert_close(average[0].weight, expected)
    assert torch.equal(average[1].running_mean, network[1].running_mean)
    assert not average.training
