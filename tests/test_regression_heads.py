import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from orix.quaternion import Rotation

from dpcurate import orientations
from dpcurate.errors import InputError
from dptrain import rotations
from dptrain.config import HeadConfig
from dptrain.euler_head import RANGES_DEG, bunge_deg, from_bunge
from dptrain.grid_head import GridHead
from dptrain.head import robust
from dptrain.heads import build_head, saved_head
from tests.laue_groups import PHASES, ROTATIONS

torch.set_num_threads(1)  # several workers of pytest share the cores

KINDS = {
    "rotation": HeadConfig(name="rotation"),
    "euler": HeadConfig(name="euler"),
    "harmonics": HeadConfig(name="harmonics"),
    "harmonics of few degrees": HeadConfig(name="harmonics", max_degree=0),
}
TWO = (PHASES["m-3m"], PHASES["-3m"])
HEADS: dict[tuple[str, ...], torch.nn.Module] = {}
"""Made when first asked for."""

kinds, names, seeds = st.sampled_from(list(KINDS)), st.sampled_from(list(ROTATIONS)), st.integers(0, 10_000)


def head_of(kind, *groups):
    if (kind, *groups) not in HEADS:
        HEADS[kind, *groups] = build_head([PHASES[name] for name in groups], KINDS[kind])
    return HEADS[kind, *groups]


def best_outputs(head, kind, label, phase_id):
    """What a network that knows the answer gives out, (n, n_outputs)."""
    outputs = torch.zeros(len(label), head.n_outputs)
    parts = outputs.split([head.n_logits, *head.widths], dim=1)
    for row, phase in enumerate(phase_id.tolist()):
        q, numbers = label[row : row + 1], parts[phase + 1][row]
        if kind == "rotation":
            numbers[:] = rotations.to_matrix(q).flatten()
        elif kind == "euler":
            numbers[:3], numbers[3] = head.targets(phase, q)[0], 9.0
        else:
            numbers[:] = head.vectors(phase, q)[0]
        if head.n_logits:
            parts[0][row, phase] = 20.0
    return outputs


def one_phase(n):
    return torch.zeros(n, dtype=torch.int16)


def random(n, seed):
    return torch.tensor(orientations.random_uniform(n, seed=seed))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ROTATIONS)
def test_decoding_returns_the_label_with_confidence_one(kind, name):
    head, label = head_of(kind, name), random(60, 3)
    outputs = best_outputs(head, kind, label, one_phase(60))
    answer, confidence, phase = head.decode(outputs, n_best=4)
    off = orientations.disorientation_deg(answer[:, 0].double().numpy(), label.numpy(), ROTATIONS[name])
    assert off.max() < 0.1
    assert confidence[:, 0].numpy() == pytest.approx(1, abs=1e-3)
    assert confidence[:, 1:].max() < 1e-3  # a pattern that is sure of one answer has no other
    assert (phase == 0).all()
    assert answer.norm(dim=-1).numpy() == pytest.approx(1, abs=1e-5)


@settings(max_examples=40, deadline=None)
@given(kind=kinds, name=names, seed=seeds)
def test_the_loss_is_the_same_for_every_equivalent_and_least_at_the_label(kind, name, seed):
    torch.manual_seed(seed)
    head, label = head_of(kind, name), random(1, seed)
    same = rotations.equivalents(label[0], torch.tensor(ROTATIONS[name]))
    phase_id = one_phase(len(same))
    at_label = best_outputs(head, kind, label, phase_id[:1]).expand(len(same), -1)
    elsewhere = at_label + 0.3 * torch.randn_like(at_label[:1])
    for outputs in (at_label, elsewhere):
        loss = head.loss(outputs, same, phase_id)
        assert torch.allclose(loss, loss[:1].expand_as(loss), atol=1e-4)
    assert (head.loss(elsewhere, same, phase_id) > head.loss(at_label, same, phase_id)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_symmetry_multiplied_from_the_right_changes_the_loss(kind):
    head, label = head_of(kind, "-3m"), random(1, 4)
    wrong = rotations.multiply(label, torch.tensor(ROTATIONS["-3m"]))
    outputs = best_outputs(head, kind, label, one_phase(1)).expand(len(wrong), -1)
    loss = head.loss(outputs, wrong, one_phase(len(wrong)))
    assert (loss - loss[0]).abs().max() > 0.1


@settings(max_examples=40, deadline=None)
@given(kind=kinds, name=names, seed=seeds, size=st.sampled_from([0.0, 0.3, 3.0, 100.0]))
def test_any_outputs_give_unit_orientations_and_confidences_from_0_to_1(kind, name, seed, size):
    torch.manual_seed(seed)
    head = head_of(kind, name)
    answer, confidence, _ = head.decode(size * torch.randn(5, head.n_outputs), n_best=20)
    assert answer.shape == (5, 20, 4)
    assert answer.norm(dim=-1).numpy() == pytest.approx(1, abs=1e-4)
    assert (confidence >= 0).all()
    assert (confidence <= 1).all()
    assert (confidence.diff(dim=1) <= 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_of_several_phases_the_answer_names_the_right_one(kind):
    head, label, phase_id = head_of(kind, "m-3m", "-3m"), random(20, 5), torch.arange(20) % 2
    assert len(head.orders) in (0, head.n_outputs)
    outputs = best_outputs(head, kind, label, phase_id)
    answer, confidence, phase = head.decode(outputs, n_best=3)
    assert torch.equal(phase[:, 0], phase_id)
    for index, record in enumerate(TWO):
        mine = phase_id == index
        off = orientations.disorientation_deg(
            answer[mine, 0].double().numpy(), label[mine].numpy(), record.proper_rotations()
        )
        assert off.max() < 0.1
    assert confidence.sum(dim=1).max() <= 1 + 1e-5
    loss, other = (head.loss(outputs, label, ids) for ids in (phase_id, 1 - phase_id))
    assert (other > loss + 10).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("loss", ["plain", "truncated", "laplace"])
def test_every_loss_has_a_finite_gradient_at_its_label_and_away_from_it(kind, loss):
    config = KINDS[kind].model_copy(update={"loss": loss})
    head, label, ids = build_head([PHASES["mmm"]], config), random(4, 6), one_phase(4)
    exact = best_outputs(head, kind, label, ids)
    for outputs in (exact, exact + 0.2, torch.zeros_like(exact)):
        given_out = outputs.clone().requires_grad_()
        head.loss(given_out, label, ids).sum().backward()
        assert given_out.grad.isfinite().all()


def test_a_robust_loss_is_pulled_less_by_what_contradicts_it():
    error = torch.tensor([0.01, 0.1, 1.0, 4.0], requires_grad=True)
    slopes = {}
    for name in ("plain", "truncated", "laplace"):
        (slopes[name],) = torch.autograd.grad(robust(error, name, guess=1.0).sum(), error)
    assert (slopes["plain"] == 1).all()
    assert slopes["truncated"].tolist() == pytest.approx(np.exp([-0.01, -0.1, -1.0, -4.0]).tolist(), rel=1e-5)
    assert slopes["laplace"].tolist() == pytest.approx([5.0, 1.581, 0.5, 0.25], rel=1e-3)
    assert (robust(error, "truncated", guess=1.0) < 1).all()


def test_bunge_angles_are_those_of_orix_and_back():
    g = np.concatenate([orientations.random_uniform(200, seed=7), np.eye(4), orientations.about_z([30.0, -140.0])])
    with np.errstate(invalid="ignore"):
        theirs = Rotation(g).to_euler(degrees=True)
    ours = bunge_deg(g)
    assert (ours[:200] - theirs[:200]) % 360 % 359.9999999 == pytest.approx(0, abs=1e-6)
    assert (ours >= 0).all()
    assert (ours <= np.array(RANGES_DEG)).all()
    back = from_bunge(torch.tensor(ours)).numpy()
    assert np.abs((back * g).sum(axis=-1)) == pytest.approx(1, abs=1e-12)


def test_clamping_keeps_the_angles_of_the_euler_head_in_their_ranges():
    outside = torch.tensor([[1.2, 0.5, -0.1, 0.0]])
    clamped = build_head([PHASES["-1"]], HeadConfig(name="euler")).decode(outside, n_best=1)[0]
    free = build_head([PHASES["-1"]], HeadConfig(name="euler", clamp=False)).decode(outside, n_best=1)[0]
    edge = from_bunge(torch.tensor([360.0, 90.0, 0.0]))
    beyond = from_bunge(torch.tensor([1.2 * 360, 90.0, -36.0]))
    assert (clamped[0, 0] * edge).sum().abs() == pytest.approx(1, abs=1e-6)
    assert (free[0, 0] * beyond).sum().abs() == pytest.approx(1, abs=1e-6)


ON_GRIDS = {name: HeadConfig(name=name, max_cells=200) for name in ("grid", "density")}


@pytest.mark.parametrize("config", [*KINDS.values(), *ON_GRIDS.values()], ids=[*KINDS, *ON_GRIDS])
def test_a_saved_head_answers_as_it_did(config):
    head = build_head(TWO, config)
    again = saved_head(TWO, config, head.state_dict())
    torch.manual_seed(2)
    outputs = torch.randn(6, head.n_outputs)
    for first, second in zip(head.decode(outputs, n_best=3), again.decode(outputs, n_best=3), strict=True):
        assert torch.equal(first, second)
    assert again.orders == head.orders


def test_the_tensors_of_another_head_are_refused_with_a_sentence():
    states = {name: build_head(TWO, config).state_dict() for name, config in KINDS.items()}
    with pytest.raises(InputError, match="not those of the harmonics head.*found none.*train again"):
        saved_head(TWO, KINDS["harmonics"], states["rotation"])
    with pytest.raises(InputError, match="not those of the rotation head"):
        saved_head(TWO, KINDS["rotation"], states["harmonics"])
    with pytest.raises(InputError, match="not those of the harmonics head"):
        saved_head(TWO, KINDS["harmonics"], states["harmonics of few degrees"])
    with pytest.raises(InputError, match="the head's cells are missing"):
        saved_head(TWO, HeadConfig(name="grid"), states["euler"])
    assert isinstance(build_head(TWO, HeadConfig(name="grid", max_cells=100)), GridHead)
