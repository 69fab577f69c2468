import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dpcurate import orientations
from dptrain.config import HeadConfig
from dptrain.heads import build_head
from tests.laue_groups import PHASES, ROTATIONS

torch.set_num_threads(1)  # several workers of pytest share the cores

CONFIG = HeadConfig(name="density", max_cells=600)
HEAD = build_head([PHASES["-3m"]], CONFIG)
ID = torch.zeros(1, dtype=torch.int16)


def fitted(head, label, phase_id, *, steps=60):
    """Coefficients (n, n_outputs) whose loss is as low as it gets."""
    outputs = torch.zeros(len(label), head.n_outputs, requires_grad=True)
    optimizer = torch.optim.LBFGS([outputs], max_iter=steps, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = head.loss(outputs, label, phase_id).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return outputs.detach()


def test_the_best_coefficients_of_a_label_decode_to_it():
    label = torch.tensor(orientations.random_uniform(12, seed=1))
    answer, confidence, _ = HEAD.decode(fitted(HEAD, label, ID.expand(12)), n_best=3)
    off = orientations.disorientation_deg(answer[:, 0].double().numpy(), label.numpy(), ROTATIONS["-3m"])
    assert off.max() < 0.25 * HEAD.spacing_deg
    assert confidence[:, 0].min() > 0.8


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_the_loss_is_the_same_for_every_equivalent(seed):
    torch.manual_seed(seed)
    label = torch.tensor(orientations.random_uniform(1, seed=seed))
    same = torch.tensor(orientations.equivalents(label[0], ROTATIONS["-3m"]))
    loss = HEAD.loss(torch.randn(1, HEAD.n_outputs).expand(6, -1), same, ID.expand(6))
    assert torch.allclose(loss, loss[:1].expand(6), atol=1e-3)


def test_a_constant_for_each_phase_moves_probability_between_phases_only():
    head = build_head([PHASES["m-3m"], PHASES["-3m"]], CONFIG)
    torch.manual_seed(0)
    outputs = torch.randn(1, head.n_outputs)
    before = (outputs @ head.basis.T).log_softmax(dim=-1)
    outputs[0, 1] += 2
    after = (outputs @ head.basis.T).log_softmax(dim=-1)
    for index in (0, 1):
        change = (after - before)[0, head.cell_phase == index]
        assert change.std() < 1e-5
    assert head.orders[:2] == (0, 0)
    assert np.isclose(float((after - before)[0, head.cell_phase == 1].mean() - (after - before)[0, 0]), 2, atol=1e-4)
