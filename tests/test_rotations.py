import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from orix.quaternion import Orientation, Rotation

from dpcurate import orientations
from dptrain import rotations
from tests.laue_groups import ORIX, ROTATIONS

torch.set_num_threads(1)  # several workers of pytest share the cores

seeds = st.integers(0, 10_000)
laws = settings(max_examples=30, deadline=None)


def random(n, seed):
    return torch.tensor(orientations.random_uniform(n, seed=seed))


@pytest.mark.parametrize("name", ORIX)
def test_disorientation_equals_that_of_orix(name):
    a, near = random(200, 1), rotations.turn_quaternion(1e-3 * torch.randn(100, 3, dtype=torch.float64))
    b = torch.cat([random(100, 2), rotations.multiply(near, a[100:])])
    theirs = Orientation(Rotation(a.numpy()), symmetry=ORIX[name]).angle_with(
        Orientation(Rotation(b.numpy()), symmetry=ORIX[name])
    )
    ours = rotations.disorientation_deg(a, b, torch.tensor(ROTATIONS[name]))
    assert ours.numpy() == pytest.approx(np.rad2deg(theirs), abs=1e-6)


def test_products_and_matrices_are_those_of_numpy():
    a, b = random(50, 3), random(50, 4)
    assert rotations.multiply(a, b).numpy() == pytest.approx(orientations.multiply(a, b), abs=1e-14)
    assert rotations.to_matrix(a).numpy() == pytest.approx(orientations.to_matrix(a), abs=1e-14)
    assert rotations.conjugate(a).numpy() == pytest.approx(orientations.conjugate(a), abs=0)


@laws
@given(seed=seeds, axis=st.integers(0, 2))
def test_a_matrix_gives_back_its_quaternion_even_for_half_turns(seed, axis):
    half_turn = torch.zeros(1, 4, dtype=torch.float64)
    half_turn[0, axis + 1] = 1
    q = torch.cat([random(20, seed), half_turn, random(1, seed) * torch.tensor([0.0, 1, 1, 1])])
    q = torch.nn.functional.normalize(q, dim=-1)
    back = rotations.from_matrix(rotations.to_matrix(q))
    assert (back * q).sum(dim=-1).abs().numpy() == pytest.approx(1, abs=1e-12)


@laws
@given(seed=seeds)
def test_the_nearest_rotation_is_one_and_no_other_is_nearer(seed):
    torch.manual_seed(seed)
    matrix = torch.randn(8, 3, 3, dtype=torch.float64)
    found, singular = rotations.nearest_rotation(matrix)
    assert torch.allclose(found @ found.mT, torch.eye(3, dtype=torch.float64).expand(8, 3, 3), atol=1e-12)
    assert torch.linalg.det(found).numpy() == pytest.approx(1, abs=1e-12)
    distance = (matrix - found).square().sum(dim=(-2, -1))
    others = rotations.to_matrix(random(500, seed))
    assert (distance[:, None] <= (matrix[:, None] - others).square().sum(dim=(-2, -1)) + 1e-12).all()
    assert ((found.mT @ matrix).diagonal(dim1=-2, dim2=-1).sum(dim=-1) - singular.sum(dim=-1)).abs().max() < 1e-12


@laws
@given(seed=seeds, name=st.sampled_from(list(ROTATIONS)))
def test_the_squared_chord_belongs_to_the_disorientation_and_has_a_gradient_everywhere(seed, name):
    a, b, group = random(10, seed), random(10, seed + 1), torch.tensor(ROTATIONS[name])
    chord = rotations.squared_chord(rotations.to_matrix(a), b, group)
    angle = torch.deg2rad(rotations.disorientation_deg(a, b, group))
    assert chord.numpy() == pytest.approx((8 * torch.sin(angle / 2) ** 2).numpy(), abs=1e-10)
    matrix = rotations.to_matrix(a).float().requires_grad_()
    rotations.squared_chord(matrix, a.float(), group.float()).sum().backward()
    assert matrix.grad.isfinite().all()


@laws
@given(seed=seeds, size=st.sampled_from([0.0, 1e-9, 1e-3, 1.0, 3.0]))
def test_a_rotation_vector_and_its_quaternion_say_the_same(seed, size):
    torch.manual_seed(seed)
    turn = torch.nn.functional.normalize(torch.randn(5, 3, dtype=torch.float64), dim=-1) * size
    q = rotations.turn_quaternion(turn)
    assert q.norm(dim=-1).numpy() == pytest.approx(1, abs=1e-12)
    assert torch.allclose(rotations.turn_vector(q), turn, atol=1e-12)
    assert torch.allclose(rotations.turn_vector(-q), turn, atol=1e-12)
