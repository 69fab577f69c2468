import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dpcurate import orientations
from dptrain.config import HeadConfig
from dptrain.grid_head import covering, grid_cells
from dptrain.heads import build_head
from tests.conftest import phase, rotations

torch.set_num_threads(1)  # several workers of pytest share the cores

HALF = np.sqrt(0.5)
TURN_X = [0, 1, 0, 0]
GROUPS = {
    "-3m": rotations([0.5, 0, 0, np.sqrt(0.75)], TURN_X),
    "m-3m": rotations([HALF, 0, 0, HALF], [HALF, HALF, 0, 0]),
    "6/mmm": rotations([np.sqrt(0.75), 0, 0, 0.5], TURN_X),
    "mmm": rotations([0, 0, 0, 1], TURN_X),
    "2/m": rotations([0, 0, 1, 0]),
}
PHASES = {
    name: phase(name, space_group=1, point_group=name, lattice=(3, 3, 3, 90, 90, 90), symmetry=group, elements=[])
    for name, group in GROUPS.items()
}
HEADS = {name: build_head([record], HeadConfig(name="grid", max_cells=1500)) for name, record in PHASES.items()}
seeds = st.integers(0, 10_000)


def logits_of(target):
    return target.clamp_min(1e-30).log()


@pytest.mark.parametrize("name", GROUPS)
def test_decoding_a_soft_target_returns_its_label_within_one_degree(name):
    head, label = HEADS[name], orientations.random_uniform(200, seed=3)
    target = head.targets(torch.tensor(label), torch.zeros(200, dtype=torch.int16))
    answer, mass, _ = head.decode(logits_of(target), n_best=1)
    assert orientations.disorientation_deg(answer[:, 0].numpy(), label, GROUPS[name]).max() < 1
    assert mass.min() > 0.8


@pytest.mark.parametrize("name", GROUPS)
@settings(max_examples=10, deadline=None)
@given(seed=seeds)
def test_a_soft_target_ignores_which_equivalent_is_the_label(name, seed):
    head, label = HEADS[name], orientations.random_uniform(1, seed=seed)
    same = torch.tensor(orientations.equivalents(label, GROUPS[name])[0])
    target = head.targets(same, torch.zeros(len(same), dtype=torch.int16))
    assert torch.allclose(target, target[:1].expand_as(target), atol=2e-5)
    assert torch.allclose(target.sum(dim=1), torch.ones(len(same)), atol=1e-5)


def test_symmetry_multiplied_from_the_right_breaks_the_soft_targets():
    label = orientations.random_uniform(1, seed=4)
    wrong = torch.tensor(orientations.multiply(label, GROUPS["-3m"]))
    target = HEADS["-3m"].targets(wrong, torch.zeros(len(wrong), dtype=torch.int16))
    assert (target - target[:1]).abs().max() > 1e-2


@settings(max_examples=10, deadline=None)
@given(seed=seeds)
def test_the_loss_is_least_at_the_soft_target_and_the_same_for_every_equivalent(seed):
    head, label = HEADS["-3m"], orientations.random_uniform(1, seed=seed)
    same = torch.tensor(orientations.equivalents(label, GROUPS["-3m"])[0])
    ids = torch.zeros(len(same), dtype=torch.int16)
    logits = logits_of(head.targets(same[:1], ids[:1])).expand(len(same), -1)
    at_label = head.loss(logits, same, ids)
    elsewhere = head.loss(logits + torch.randn_like(logits[:1]), same, ids)
    assert torch.allclose(at_label, at_label[:1].expand_as(at_label), atol=1e-3)
    assert (elsewhere > at_label).all()


def test_targets_lie_in_the_labels_own_phase_and_decoding_tells_the_phase():
    records = [PHASES["m-3m"], PHASES["-3m"]]
    head = build_head(records, HeadConfig(name="grid", max_cells=1500))
    label, ids = orientations.random_uniform(40, seed=1), torch.arange(40) % 2
    target = head.targets(torch.tensor(label), ids)
    for index in (0, 1):
        assert target[ids == index][:, head.cell_phase != index].sum() == 0
    _, mass, answer_phase = head.decode(logits_of(target), n_best=5)
    assert (answer_phase[:, 0] == ids).all()
    assert (mass.diff(dim=1) <= 0).all()
    assert mass.sum(dim=1).max() < 1 + 1e-5


def test_two_equal_modes_are_both_found_with_half_the_mass():
    head = HEADS["m-3m"]
    first = np.array([[1.0, 0, 0, 0]])
    second = orientations.multiply(first, [np.cos(0.3), np.sin(0.3), 0, 0])
    ids = torch.zeros(1, dtype=torch.int16)
    target = (head.targets(torch.tensor(first), ids) + head.targets(torch.tensor(second), ids)) / 2
    answer, mass, _ = head.decode(logits_of(target), n_best=2)
    off = [orientations.disorientation_deg(answer[0].numpy(), label, GROUPS["m-3m"]) for label in (first, second)]
    assert np.allclose(np.sort(np.min(off, axis=0)), 0, atol=1)
    assert set(np.argmin(off, axis=0)) == {0, 1}
    assert mass.numpy() == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize("name", GROUPS)
def test_no_orientation_is_farther_than_the_spacing_from_a_cell(name):
    cells, _ = grid_cells([PHASES[name]], HeadConfig(name="grid", max_cells=1500))
    _, angle = orientations.nearest(orientations.random_uniform(300, seed=5), cells, GROUPS[name])
    assert angle.max() < 1.05 * HEADS[name].spacing_deg


def test_the_number_of_cells_is_bounded_by_widening_the_spacing():
    cells, cell_phase = grid_cells(
        [PHASES["m-3m"], PHASES["2/m"]], HeadConfig(name="grid", spacing_deg=1, max_cells=600)
    )
    assert 500 < len(cells) < 650
    counts = np.bincount(cell_phase)
    assert counts[1] / counts[0] == pytest.approx(12, rel=0.15)
    wide = HeadConfig(name="grid", spacing_deg=10, max_cells=4000)
    assert build_head([PHASES["m-3m"]], wide).spacing_deg == pytest.approx(10, rel=0.05)


def test_the_covering_of_all_rotations_is_nearly_even():
    grid = covering(2000)
    assert np.allclose(np.linalg.norm(grid, axis=1), 1)
    _, angle = orientations.nearest(orientations.random_uniform(500, seed=0), grid, [[1.0, 0, 0, 0]])
    assert angle.max() < 1.1 * np.degrees((8 * np.pi**2 / 2000) ** (1 / 3))


def test_asking_for_more_answers_than_there_are_modes_gives_masses_of_nothing():
    head = build_head([PHASES["m-3m"]], HeadConfig(name="grid", spacing_deg=30))
    answer, mass, _ = head.decode(torch.zeros(2, head.n_outputs), n_best=40)
    assert torch.isfinite(answer).all()
    assert mass[:, -1].max() == 0
