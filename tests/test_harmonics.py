import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import sph_harm_y

from dpcurate import orientations
from dptrain import harmonics, rotations
from dptrain.config import HeadConfig
from dptrain.harmonics_head import HarmonicsHead, shares
from dptrain.heads import build_head
from tests.laue_groups import PHASES, ROTATIONS

torch.set_num_threads(1)  # several workers of pytest share the cores

seeds, names = st.integers(0, 10_000), st.sampled_from(list(ROTATIONS))
laws = settings(max_examples=20, deadline=None)

HEADS: dict[str, HarmonicsHead] = {}
"""Made when first asked for."""

APART_DEG = 10.0
LEAST_DISTANCE = 0.1
"""Vectors of orientations at least so far apart differ by more; 0.14 at the least of 3 million pairs of each group."""


def head_of(name):
    if name not in HEADS:
        HEADS[name] = build_head([PHASES[name]], HeadConfig(name="harmonics", max_degree=0))
    return HEADS[name]


def random(n, seed):
    return torch.tensor(orientations.random_uniform(n, seed=seed))


@laws
@given(seed=seeds, degree=st.integers(1, 8))
def test_the_matrices_of_a_product_are_the_product_of_the_matrices(seed, degree):
    a, b = random(4, seed), random(4, seed + 1)
    product = harmonics.turned(rotations.multiply(a, b), degree)
    assert torch.allclose(product, harmonics.turned(a, degree) @ harmonics.turned(b, degree), atol=1e-10)
    assert torch.allclose(product @ product.mT, torch.eye(2 * degree + 1, dtype=torch.float64), atol=1e-10)


def real_harmonics(xyz, degree):
    """Values (n, 2 l + 1) of scipy's harmonics in real form: m = 0, cos 1, sin 1, ..."""
    theta, phi = np.arccos(xyz[:, 2]), np.arctan2(xyz[:, 1], xyz[:, 0])
    values = [sph_harm_y(degree, 0, theta, phi).real]
    for m in range(1, degree + 1):
        value = (-1) ** m * np.sqrt(2) * sph_harm_y(degree, m, theta, phi)
        values += [value.real, value.imag]
    return np.stack(values, axis=-1)


@pytest.mark.parametrize("degree", range(1, 9))
def test_the_matrices_turn_the_spherical_harmonics_of_scipy(degree):
    rng = np.random.default_rng(0)
    xyz = rng.normal(size=(30, 3))
    xyz /= np.linalg.norm(xyz, axis=1, keepdims=True)
    q, coefficients = random(1, degree), rng.normal(size=2 * degree + 1)
    matrix = orientations.to_matrix(q[0])
    turned = harmonics.turned(q[0], degree).numpy() @ coefficients
    there = real_harmonics(xyz @ matrix.T, degree) @ turned  # the turned function at turned places
    assert there == pytest.approx(real_harmonics(xyz, degree) @ coefficients, abs=1e-10)


@pytest.mark.parametrize("name", ROTATIONS)
def test_invariants_are_left_alone_and_as_many_as_the_characters_say(name):
    group = ROTATIONS[name]
    half = np.arccos(np.abs(group[:, 0]).clip(0, 1))
    for degree in range(1, 9):
        functions = harmonics.invariants(group, degree)
        matrices = harmonics.turned(torch.tensor(group), degree).numpy()
        assert np.einsum("sij,kj->ski", matrices, functions) == pytest.approx(
            np.broadcast_to(functions, (len(group), *functions.shape)), abs=1e-10
        )
        characters = [sum(np.cos(2 * m * angle) for m in range(-degree, degree + 1)) for angle in half]
        assert len(functions) == pytest.approx(np.mean(characters), abs=1e-9)


@pytest.mark.parametrize("name", ROTATIONS)
def test_the_vector_tells_every_orientation_apart(name):
    head, g = head_of(name), random(1000, 2)
    vector = head.vectors(0, g)
    assert vector.norm(dim=-1).numpy() == pytest.approx(1, abs=1e-10)
    angle = orientations.disorientation_deg(g[:300, None].numpy(), g[None].numpy(), ROTATIONS[name])
    distance = torch.cdist(vector[:300], vector).numpy()
    assert distance[angle > APART_DEG].min() > LEAST_DISTANCE
    slopes = torch.linalg.svdvals(head._slopes(0, vector[:50]))  # and near ones by their angle
    assert slopes.min() > 0.4


@laws
@given(seed=seeds, name=names)
def test_equivalents_have_one_vector_and_a_turned_pattern_has_the_turned_one(seed, name):
    head, g = head_of(name), random(1, seed)
    vector = head.vectors(0, g)
    same = rotations.equivalents(g[0], torch.tensor(ROTATIONS[name]))
    assert torch.allclose(head.vectors(0, same), vector.expand(len(same), -1), atol=1e-9)
    turned = head.vectors(0, torch.tensor(orientations.turn_pattern(g, 40.0)))[0]
    orders, place = np.array(head.orders), 0
    while place < len(orders):
        m = orders[place]
        width = 1 if m == 0 else 2
        part = vector[0, place : place + width].numpy() @ np.array([1, 1j])[:width]
        expected = part * np.exp(1j * np.radians(40.0) * m)
        assert turned[place : place + width].numpy() @ np.array([1, 1j])[:width] == pytest.approx(expected, abs=1e-9)
        place += width


def test_one_degree_too_few_and_the_c_axis_alone_is_told():
    group = ROTATIONS["-3m"]
    functions = torch.tensor(harmonics.invariants(group, 2))
    about_c = rotations.turn_quaternion(torch.tensor([0.0, 0, np.radians(30)], dtype=torch.float64))
    g = random(1, 5)
    other = rotations.multiply(about_c, g)
    assert orientations.disorientation_deg(g.numpy(), other.numpy(), group)[0] == pytest.approx(30)
    first, second = (harmonics.turned(rotations.conjugate(q), 2) @ functions.T for q in (g, other))
    assert torch.allclose(first, second, atol=1e-10)


def test_more_degrees_are_those_with_an_invariant_function():
    assert harmonics.degrees_of(ROTATIONS["m-3m"], up_to=0) == (4,)
    assert harmonics.degrees_of(ROTATIONS["m-3m"], up_to=8) == (4, 6, 8)
    assert harmonics.degrees_of(ROTATIONS["-3m"], up_to=4) == (2, 3, 4)
    assert harmonics.degrees_of(ROTATIONS["6/mmm"], up_to=3) == (2, 6)
    assert harmonics.degrees_of(ROTATIONS["m-3m"]) == (4, 6, 8, 9, 10, 12)
    assert harmonics.degrees_of(ROTATIONS["-1"]) == (1, 2, 3, 4)


def test_a_vector_counts_for_what_is_left_of_those_that_fit_better():
    torch.manual_seed(1)
    vectors = torch.linalg.qr(torch.randn(20, 30, 3))[0].mT
    weight = torch.tensor([0.5, 0.3, 0.1]).expand(20, 3)
    mixed = (weight[..., None] * vectors).sum(dim=1)
    assert torch.allclose(shares(vectors, mixed), weight, atol=1e-6)
    doubled = shares(vectors.repeat_interleave(2, dim=1), mixed)
    assert torch.allclose(doubled[:, ::2], weight, atol=1e-6)
    assert doubled[:, 1::2].max() < 1e-6
    assert (shares(vectors.flip(1), mixed) <= 0.1 + 1e-6).all()  # no more than the first
    assert shares(vectors, -mixed).max() == 0
    assert torch.allclose(shares(vectors, 5 * mixed).sum(dim=1), torch.ones(20))
    near = torch.nn.functional.normalize(vectors[:, :1] + 0.5 * vectors[:, 1:2], dim=-1)
    assert torch.allclose(
        shares(torch.cat([near, vectors[:, :1]], dim=1), near[:, 0])[:, 1], torch.zeros(20), atol=1e-6
    )


def test_two_answers_are_both_found_where_the_degrees_suffice():
    head = build_head([PHASES["-3m"]], HeadConfig(name="harmonics"))
    assert head.degrees == [[2, 3, 4, 5, 6, 7, 8]]
    first, second = random(40, 6), random(40, 7)
    far = orientations.disorientation_deg(first.numpy(), second.numpy(), ROTATIONS["-3m"]) > 40
    outputs = (head.vectors(0, first) + head.vectors(0, second))[far].float() / 2
    answer, confidence, _ = head.decode(outputs, n_best=2)
    for label in (first[far], second[far]):
        off = orientations.disorientation_deg(answer.numpy(), label[:, None].numpy(), ROTATIONS["-3m"]).min(axis=1)
        assert off.max() < 3
    assert confidence.numpy() == pytest.approx(0.5, abs=0.05)
