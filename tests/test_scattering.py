import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dpcurate.bloch import excited
from dpcurate.orientations import random_uniform, to_matrix
from dpcurate.phases import phase_from_cell
from dpcurate.reflections import cell_volume, reciprocal_basis, structure_factors
from dpcurate.scattering import expected_beams, generated_lattice, in_lattice, scattering_table
from tests.crystals import CEMENTITE, LINIO2

torch.set_num_threads(1)  # several workers of pytest share the cores

laws = settings(max_examples=40, deadline=None)


def indices(phase):
    table = scattering_table(phase, beam_energy_kev=200, k_max_inv_angstrom=0.9)
    return np.rint(table.g.numpy() @ np.linalg.inv(reciprocal_basis(phase))).astype(int)


def test_beams_of_a_centred_cell_are_left_out_and_those_of_glide_planes_stay():
    assert (indices(LINIO2) @ [-1, 1, 1] % 3 == 0).all()
    hkl = indices(CEMENTITE)
    glide = hkl[(hkl[:, 0] == 0) & (hkl[:, 1:].sum(axis=1) % 2 == 1)]
    assert len(glide) > 10
    assert np.abs(structure_factors(CEMENTITE, glide)).max() < 1e-6


def test_the_couplings_make_a_potential_that_is_deepest_at_the_atoms():
    # In GaAs 1/4 1/4 1/4 holds an atom and 3/4 3/4 3/4 none: couplings of the wrong sign of g swap the two.
    zincblende = phase_from_cell(
        "GaAs", 216, lattice=(5.653, 5.653, 5.653, 90, 90, 90), sites=[("Ga", 0, 0, 0), ("As", 0.25, 0.25, 0.25)]
    )
    table = scattering_table(zincblende, beam_energy_kev=200, k_max_inv_angstrom=1.5, u_iso_angstrom2=0.01)
    coupling = table.coupling[table.place + table.zero].numpy()
    hkl = np.rint(table.g.numpy() @ np.linalg.inv(reciprocal_basis(zincblende)))
    potential = [(coupling * np.exp(2j * np.pi * hkl @ np.full(3, x))).sum().real for x in (0.0, 0.25, 0.5, 0.75)]
    assert potential[1] > potential[0] > 5 * abs(potential[2])
    assert potential[0] > 5 * abs(potential[3])


def test_the_expected_number_of_beams_is_the_mean_over_orientations():
    options = {"beam_energy_kev": 200, "k_max_inv_angstrom": 1.2}
    table = scattering_table(LINIO2, **options)
    beam = torch.as_tensor(to_matrix(random_uniform(400, seed=0))[:, :, 2])
    _, count = excited(table, beam, tilt=0.0, margin=0.04)
    expected = expected_beams(cell_volume(LINIO2) / 3, k_max_inv_angstrom=1.2, max_excitation_error=0.04)
    assert float(count.double().mean()) == pytest.approx(expected, rel=0.1)


@laws
@given(rows=st.lists(st.tuples(*[st.integers(-6, 6)] * 3), min_size=1, max_size=6), data=st.data())
def test_a_generated_lattice_holds_all_whole_combinations(rows, data):
    vectors = np.array(rows)
    basis = generated_lattice(vectors)
    times = np.array(data.draw(st.lists(st.integers(-4, 4), min_size=len(rows), max_size=len(rows))))
    assert in_lattice((times @ vectors)[None], basis).all()
    assert in_lattice(basis, generated_lattice(basis)).all()


def test_a_generated_lattice_leaves_out_what_no_combination_reaches():
    basis = generated_lattice(np.array([(1, 1, 1), (2, 0, 0), (0, 2, 0)]))  # face-centred
    assert in_lattice(np.array([(1, 0, 0), (1, 1, 0), (2, 1, 1), (3, 1, 1), (2, 2, 0)]), basis).tolist() == [
        False, False, False, True, True,
    ]  # fmt: skip
