import functools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dpcurate import orientations
from dpcurate.errors import InputError
from dptrain import harmonics
from dptrain.config import HeadConfig
from dptrain.heads import build_head
from dptrain.models import build_network
from dptrain.runs import requested_config
from dptrain.views import N_VIEWS, averaged_outputs, check_views, turned_outputs
from tests.conftest import CUBIC, TRIGONAL
from tests.laue_groups import PHASES

torch.set_num_threads(1)  # several workers of pytest share the cores

laws = settings(max_examples=10, deadline=None)
seeds = st.integers(0, 10_000)


@functools.cache
def head_of(name):
    return build_head([CUBIC, TRIGONAL], HeadConfig(name=name, max_cells=100))


@laws
@given(seed=seeds, name=st.sampled_from(sorted(PHASES)), angle=st.floats(-180, 180))
def test_mirrored_and_turned_patterns_have_vectors_with_these_signs_and_phases(seed, name, angle):
    functions = harmonics.invariant_functions(PHASES[name].proper_rotations(), up_to=4)
    rows = {degree: torch.tensor(part) for degree, part in functions.items()}
    g = orientations.random_uniform(3, seed=seed)
    plain, mirrored, turned = (
        harmonics.vectors(rows, torch.tensor(q))
        for q in (g, orientations.mirror_pattern(g), orientations.turn_pattern(g, angle))
    )
    signs = torch.tensor(harmonics.mirror_signs_of(functions))
    assert torch.allclose(mirrored, plain * signs, atol=1e-9)
    orders = tuple(harmonics.orders_of(functions))
    assert torch.allclose(turned, turned_outputs(plain, angle, orders), atol=1e-6)


@laws
@given(seed=seeds, name=st.sampled_from(["density", "harmonics", "rotation"]), columns=st.integers(-20, 20))
def test_averages_turn_by_single_columns_of_the_frame_and_mirror_exactly(seed, name, columns):
    torch.manual_seed(seed)
    config, head = requested_config("cnn", {"input": {"size": 64}}), head_of(name)
    network = build_network(config, n_outputs=head.n_outputs, orders=head.orders).eval()
    frames = torch.randn(2, 1, 32, 128)
    with torch.no_grad():
        plain, turned, mirrored = (
            averaged_outputs(network, head, shown)
            for shown in (frames, frames.roll(columns, -1), frames.flip(-1).roll(1, -1))
        )
    assert torch.allclose(turned, turned_outputs(plain, columns * 360 / 128, head.orders), atol=1e-4)
    assert torch.allclose(mirrored, plain * torch.tensor(head.mirror_signs), atol=1e-4)


def test_an_average_is_the_mean_of_as_many_views_as_it_says():
    head = build_head([TRIGONAL], HeadConfig(name="rotation"))
    seen = []

    class Still(torch.nn.Module):
        def forward(self, x):
            seen.append(x)
            return torch.ones(len(x), head.n_outputs)

    outputs = averaged_outputs(Still(), head, torch.randn(1, 1, 16, 64))
    assert len(seen) == N_VIEWS
    assert len({float(x[0, 0, :, 5].sum()) for x in seen}) == N_VIEWS
    # what does not turn with the pattern is averaged away but for the coefficients along z and y
    assert outputs.view(3, 3)[:, 2].abs().max() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("options", [{"head": {"name": "grid"}}, {"input": {"frame": "cartesian"}}])
def test_networks_whose_outputs_do_not_turn_are_refused(options):
    config = requested_config("cnn", options)
    head = build_head([CUBIC], config.head.model_copy(update={"max_cells": 100}))
    with pytest.raises(InputError, match=r"run: --average needs outputs that turn .* leave it out"):
        check_views(config, head, what="run")
    check_views(requested_config("cnn", {}), build_head([CUBIC], HeadConfig(max_cells=100)), what="run")
