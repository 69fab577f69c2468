"""The laws of a simulator: what a sample is does not depend on its batch."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dpcurate.kinematic import kinematic_spots
from dpcurate.orientation_sampling import turned
from dpcurate.orientations import disorientation_deg, random_uniform
from dpcurate.simulator import (
    TILTS,
    beams,
    draw,
    expected,
    simulate,
)
from tests.conftest import CUBIC, TRIGONAL
from tests.simulators import (
    CLEAR,
    GEOMETRY,
    MIXED,
    N,
    columns_of,
    nearest_parent,
    simulator_of,
    spots_of,
    with_conditions,
)

KINEMATICAL, DYNAMICAL = (simulator_of(sample=MIXED, physics=physics) for physics in ("kinematical", "dynamical"))
WHOLE = {
    simulator.plan.recipe.physics: (draw(simulator, np.arange(N)), simulate(simulator, draw(simulator, np.arange(N))))
    for simulator in (KINEMATICAL, DYNAMICAL)
}
some_samples = st.lists(st.integers(0, N - 1), min_size=1, max_size=9)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(some_samples)
def test_a_sample_is_the_same_alone_in_any_batch_and_in_any_order(numbers):
    drawn, counts = WHOLE["kinematical"]
    some = draw(KINEMATICAL, numbers)
    for name, column in columns_of(some).items():
        np.testing.assert_array_equal(column, columns_of(drawn)[name][numbers], err_msg=name)
    np.testing.assert_array_equal(simulate(KINEMATICAL, some), counts[numbers])


@settings(max_examples=8, deadline=None, derandomize=True)
@given(some_samples)
def test_with_multiple_scattering_too_but_for_rare_single_counts(numbers):
    drawn, counts = WHOLE["dynamical"]
    some = draw(DYNAMICAL, numbers)
    for name, column in columns_of(some).items():
        np.testing.assert_array_equal(column, columns_of(drawn)[name][numbers], err_msg=name)
    other = np.abs(simulate(DYNAMICAL, some).astype(int) - counts[numbers])
    assert other.max() <= 1
    assert (other > 0).sum() <= len(numbers)
    np.testing.assert_allclose(
        expected(DYNAMICAL, some), expected(DYNAMICAL, drawn)[torch.tensor(numbers)], rtol=1e-4, atol=1e-4
    )


def test_padding_does_not_come_between_spots_so_that_not_a_bit_depends_on_the_batch():
    still = GEOMETRY.model_copy(update={"precession_deg": 0.0})
    simulator = simulator_of(geometry=still, sample=MIXED)
    whole = expected(simulator, draw(simulator, np.arange(N)))
    q, intensity, _ = beams(simulator, draw(simulator, np.arange(N)))
    assert (np.diff((intensity > 0).int().numpy(), axis=1) <= 0).all()
    assert q.shape[1] == (intensity > 0).sum(dim=1).max()
    for number in range(N):
        assert torch.equal(expected(simulator, draw(simulator, [number]))[0], whole[number]), number


@pytest.mark.parametrize("orientations", ["uniform", "around"])
def test_another_seed_gives_other_orientations_conditions_and_counts(orientations):
    parents = (random_uniform(5, seed=1), random_uniform(5, seed=2))
    one, other = (simulator_of(seed=seed, parents=parents, orientations=orientations) for seed in (3, 4))
    first, second = draw(one, np.arange(N)), draw(other, np.arange(N))
    for name in ("orientation", "orientation2", "thickness_angstrom", "dose_electrons"):
        assert (columns_of(first)[name] != columns_of(second)[name]).mean() > 0.9, name
    # the same labels and conditions, but counted with the other seed
    assert (simulate(one, first) != simulate(other, first)).any(axis=(1, 2)).all()


def test_the_phases_come_in_turn_and_second_grains_are_of_any_phase():
    drawn = draw(KINEMATICAL, np.arange(2000))
    np.testing.assert_array_equal(drawn.phase_id, np.arange(2000) % 2)
    for phase in (0, 1):
        assert 0.45 < drawn.phase2_id[drawn.phase_id == phase].mean() < 0.55


@pytest.mark.parametrize("m", [16, 17])
def test_the_second_grain_is_independent_of_the_first(m):
    parents = random_uniform(m, seed=7)
    simulator = simulator_of([CUBIC], parents=[parents], orientations="around", spread_deg=0.1)
    drawn = draw(simulator, np.arange(60 * m))
    first, second = (nearest_parent(q, parents, CUBIC)[0] for q in (drawn.orientation, drawn.orientation2))
    pairs = np.zeros((m, m))
    np.add.at(pairs, (first, second), 1)
    assert np.ptp(pairs.sum(axis=1)) == 0, "first grains take the parents in turn"
    # chi squared of a uniform choice has (m * m - 1) degrees of freedom, and a standard deviation of its square root
    chi2 = ((pairs - 60 / m) ** 2 / (60 / m)).sum()
    assert abs(chi2 - m * m) < 5 * np.sqrt(2 * m * m)


def test_second_grains_of_two_phases_are_no_more_alike_than_others():
    parents = (random_uniform(30, seed=1), random_uniform(30, seed=2))
    drawn = draw(simulator_of(parents=parents, orientations="around"), np.arange(1000))
    assert len(np.unique(drawn.orientation2.round(9), axis=0)) == 1000


@pytest.mark.parametrize("absorption", [0.0, 0.05])
@pytest.mark.parametrize("physics", ["kinematical", "dynamical"])
@pytest.mark.parametrize("phases", [(CUBIC, TRIGONAL), (TRIGONAL, CUBIC)])
def test_two_grains_are_the_sum_of_each_alone_with_their_weights(phases, physics, absorption):
    simulator = simulator_of(
        phases, physics=physics, absorption=absorption, sample=MIXED, k_max_inv_angstrom=1.0, max_excitation_error=0.05
    )
    drawn = draw(simulator, np.arange(24))
    weight = drawn.conditions.first_weight[:, None, None]
    assert 5 < (weight < 1).sum() < 24
    assert set(zip(drawn.phase_id, drawn.phase2_id, strict=True)) == {(0, 0), (0, 1), (1, 0), (1, 1)}
    alone = with_conditions(drawn, first_weight=1.0)
    first = expected(simulator, alone)
    second = expected(simulator, replace(alone, phase_id=drawn.phase2_id, orientation=drawn.orientation2))
    both = expected(simulator, drawn)
    np.testing.assert_allclose(both, weight * first + (1 - weight) * second, rtol=1e-4, atol=1e-4)
    assert (both - first).abs().amax(dim=(1, 2))[weight[:, 0, 0] < 1].median() > 0.1


def test_the_spots_of_a_mosaic_are_the_mean_of_those_of_its_tilts():
    simulator = simulator_of([TRIGONAL], sample=CLEAR.model_copy(update={"mosaic_deg": (0.4, 0.8)}))
    drawn = draw(simulator, [6])
    q, intensity = spots_of(simulator, drawn)
    parts = []
    for tilt in range(TILTS):
        g = turned(
            drawn.orientation,
            drawn.index * TILTS + tilt,
            spread_deg=drawn.conditions.mosaic_deg.double().numpy(),
            seed=simulator.plan.seed,
        )
        assert 0 < disorientation_deg(g, drawn.orientation, TRIGONAL.proper_rotations()) < 4
        spots = kinematic_spots(
            simulator.theory[0],
            g,
            beam_energy_kev=GEOMETRY.beam_energy_kev,
            precession_deg=GEOMETRY.precession_deg,
            max_excitation_error=simulator.plan.recipe.max_excitation_error,
            thickness_angstrom=drawn.conditions.thickness_angstrom,
        )
        parts.append(np.column_stack([spots.q[0], spots.intensity[0] / TILTS]))
    by_hand = np.concatenate(parts)
    by_hand = by_hand[by_hand[:, 2] > 0]
    by_hand = by_hand[np.lexsort((by_hand[:, 0].round(5), by_hand[:, 1].round(5)))]
    np.testing.assert_allclose(q, by_hand[:, :2], atol=1e-6)
    np.testing.assert_allclose(intensity, by_hand[:, 2], rtol=1e-4, atol=1e-6 * intensity.max())


@pytest.mark.parametrize("physics", ["kinematical", "dynamical"])
def test_without_mosaic_there_is_one_tilt_and_four_times_the_same_one_make_no_difference(physics):
    simulator = simulator_of(physics=physics, sample=CLEAR)
    drawn = draw(simulator, np.arange(6))
    q, _, _ = beams(simulator, drawn)
    tilted = with_conditions(drawn, mosaic_deg=1e-7)
    assert beams(simulator, tilted)[0].shape[1] == TILTS * q.shape[1]
    np.testing.assert_allclose(expected(simulator, tilted), expected(simulator, drawn), rtol=1e-3, atol=1e-3)


def test_a_thin_crystal_has_the_same_bright_spots_in_both_theories():
    single, multiple = (
        simulator_of([TRIGONAL], physics=physics, n_azimuths=16, sample=CLEAR)
        for physics in ("kinematical", "dynamical")
    )
    drawn = with_conditions(draw(single, np.arange(8)), thickness_angstrom=20.0)
    for row in range(8):
        (q, weak), (p, strong) = spots_of(single, drawn, row), spots_of(multiple, drawn, row)
        brightest = np.argsort(weak)[::-1][:5]
        apart = np.linalg.norm(q[brightest, None] - p[None], axis=2)
        assert apart.min(axis=1).max() < 1e-5
        ratio = strong[apart.argmin(axis=1)] / weak[brightest]
        np.testing.assert_allclose(ratio / ratio.mean(), 1, atol=0.25)
