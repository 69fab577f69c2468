from pathlib import Path

import numpy as np
import pytest
from orix.crystal_map import Phase
from orix.quaternion import Rotation

from dpcurate.errors import InputError
from dpcurate.library import simulate_spots
from dpcurate.orientations import random_uniform, to_matrix
from dpcurate.phases import orix_phase, phase_from_cell, read_cif
from tests.crystals import BY_LAUE_GROUP, LINIO2, N_PROPER

CIF = Path("datasets/phases/LiNiO2.cif")


def test_linio2_has_twelve_atoms_and_six_proper_rotations():
    assert (len(LINIO2.atoms), len(LINIO2.symmetry), LINIO2.point_group) == (12, 6, "-3m")


@pytest.mark.parametrize("laue", BY_LAUE_GROUP)
def test_the_symmetry_is_a_group_of_distinct_rotations_of_the_right_order(laue):
    matrices = to_matrix(BY_LAUE_GROUP[laue].proper_rotations())
    assert len(matrices) == N_PROPER[laue]
    products = np.einsum("aij,bjk->abik", matrices, matrices).reshape(-1, 3, 3)
    distance = np.abs(products[:, None] - matrices[None]).max(axis=(2, 3))
    assert (distance.min(axis=1) < 1e-3).all()
    assert len(np.unique(distance.argmin(axis=1).reshape(len(matrices), -1), axis=0)) == len(matrices)


@pytest.mark.parametrize("number", [5, 12, 14, 149, 162, 148, 166, 225])
def test_symmetry_leaves_the_cell_as_it_is_in_every_setting(number):
    lattice = (5.0, 5.0, 7.0, 90, 90, 120) if 143 <= number <= 194 else (5.0, 6.0, 7.0, 90, 100, 90)
    if number == 225:
        lattice = (5.0, 5.0, 5.0, 90, 90, 90)
    phase = phase_from_cell("x", number, lattice=lattice, sites=[("Ni", 0.1, 0.2, 0.3)])
    base = orix_phase(phase).structure.lattice.base
    metric = base @ base.T
    for matrix in to_matrix(phase.proper_rotations()):
        coordinates = np.linalg.solve(base.T, matrix @ base.T)
        assert coordinates == pytest.approx(coordinates.round(), abs=1e-4)
        assert coordinates.T @ metric @ coordinates == pytest.approx(metric, abs=1e-2)


def test_a_monoclinic_two_fold_runs_along_b():
    axis = BY_LAUE_GROUP["2/m"].proper_rotations()[1]
    assert np.abs(axis) == pytest.approx([0, 0, 1, 0], abs=1e-6)


def test_the_record_gives_diffsims_the_intensities_of_the_expanded_phase():
    expanded = Phase.from_cif(str(CIF))
    from diffsims.generators.simulation_generator import SimulationGenerator

    g = random_uniform(2, seed=0)
    options = {"reciprocal_radius": 1.2, "max_excitation_error": 0.02, "with_direct_beam": False}
    theirs = SimulationGenerator(200).calculate_diffraction2d(expanded, rotation=Rotation(g), **options)
    ours = simulate_spots(
        LINIO2, g, beam_energy_kev=200, precession_deg=0, k_max_inv_angstrom=1.2, max_excitation_error=0.02
    )
    for k in range(2):
        spots = theirs.coordinates[k]
        seen = spots.intensity > 1e-3  # diffsims keeps forbidden spots
        apart = np.linalg.norm(ours.q[k][:, None] - spots.data[seen, :2], axis=2)
        assert apart.min(axis=0) == pytest.approx(0, abs=1e-3)
        assert ours.intensity[k][apart.argmin(axis=0)] == pytest.approx(spots.intensity[seen], rel=1e-3)


def test_r_centring_leaves_no_intensity_where_it_forbids_it():
    spots = simulate_spots(
        LINIO2,
        np.array([[1.0, 0, 0, 0]]),
        beam_energy_kev=200,
        precession_deg=0,
        k_max_inv_angstrom=1.2,
        max_excitation_error=0.05,
    )
    radius = np.linalg.norm(spots.q[0], axis=1)[spots.intensity[0] > 0]
    first_allowed = 1 / (2.878 / 2)
    assert radius.min() == pytest.approx(first_allowed, rel=1e-3)


def _cif_without(tmp_path, *, operators=True, names=True):
    lines = CIF.read_text().splitlines()
    start = lines.index("_symmetry_equiv_pos_as_xyz")
    end = lines.index("loop_", start)
    if not operators:
        lines = lines[: start + 2] + lines[end:]
    if not names:
        lines = [line for line in lines[: start - 1] + lines[end:] if not line.startswith("_symmetry")]
    path = tmp_path / "broken.cif"
    path.write_text("\n".join(lines))
    return path


def test_a_cif_whose_operators_disagree_with_its_number_is_refused(tmp_path):
    with pytest.raises(InputError, match="states space group 166 .12 point operations. but its operators make 1"):
        read_cif(_cif_without(tmp_path, operators=False))


def test_a_cif_without_symmetry_is_refused(tmp_path):
    with pytest.raises(InputError, match="states no symmetry"):
        read_cif(_cif_without(tmp_path, names=False))


@pytest.mark.parametrize("text", ["garbage", "", "data_x\n_cell_length_a 3\n", "data_x\nloop_\n_a\n_b\n1\n"])
def test_an_unreadable_cif_is_one_sentence(tmp_path, text):
    path = tmp_path / "bad.cif"
    path.write_text(text)
    with pytest.raises(InputError, match="bad.cif"):
        read_cif(path)


A_CELL = "_cell_length_a                   2.878"
OPERATOR = "\n-y,x-y,z\n"


@pytest.mark.parametrize(
    ("good", "bad", "says"),
    [
        (A_CELL, "", "_cell_length_a is missing"),
        (A_CELL, "_cell_length_a 0", "_cell_length_a is 0"),
        (A_CELL, "_cell_length_a ?", "_cell_length_a is ?"),
        (A_CELL, "_cell_length_a -2.878", "_cell_length_a is -2.878"),
        ("gamma                120", "gamma 0", "_cell_angle_gamma is 0"),
        ("gamma                120", "gamma 180", "_cell_angle_gamma is 180"),
        ("alpha                90", "alpha 10", "angles.*make no cell"),
        ("Ni Ni 0 0 0 1", "Ni Ni ? 0 0 1", "_atom_site_fract_x of Ni is ?"),
        ("Ni Ni 0 0 0 1", "Ni Ni 0 . 0 1", "_atom_site_fract_y of Ni is ."),
        ("Ni Ni 0 0 0 1", "Ni Ni 0 0 0.5x 1", "_atom_site_fract_z of Ni is 0.5x"),
        ("Ni Ni 0 0 0 1", "Ni Ni 0 0 0 -0.5", "_atom_site_occupancy of Ni is -0.5, and 0 to 1 is needed"),
        ("Ni Ni 0 0 0 1", "Ni Ni 0 0 0 1.5", "_atom_site_occupancy of Ni is 1.5"),
        ("Ni Ni 0 0 0 1", "Ni Ni 0 0 0 full", "_atom_site_occupancy of Ni is full"),
        ("_atom_site_fract_z", "_atom_site_other", "_atom_site_fract_z is missing"),
        (OPERATOR, "\nfoo,bar,baz\n", "operator 'foo,bar,baz'"),
        (OPERATOR, "\n-y,2*x-y,z\n", "operator '-y,2.x-y,z'"),
        (OPERATOR, "\n-y,x-y\n", "operator '-y,x-y'"),
        (OPERATOR, "\n-y,x-y,z+1/0\n", "operator '-y,x-y,z.1/0'"),
        (OPERATOR, "\n-y,x-y,z+9**9\n", "operator '-y,x-y,z.9..9'"),
    ],
)
def test_a_cif_that_would_give_a_wrong_crystal_is_one_sentence(tmp_path, good, bad, says):
    text = CIF.read_text()
    assert text.count(good) == 1
    (tmp_path / "wrong.cif").write_text(text.replace(good, bad))
    with pytest.raises(InputError, match=f"wrong.cif: .*{says}"):
        read_cif(tmp_path / "wrong.cif")


def test_an_occupancy_that_is_not_stated_is_one_and_none_at_all_is_no_crystal(tmp_path):
    (tmp_path / "LiNiO2.cif").write_text(CIF.read_text().replace("Ni Ni 0 0 0 1", "Ni Ni 0 0 0 ?"))
    assert read_cif(tmp_path / "LiNiO2.cif") == LINIO2
    nothing = CIF.read_text().replace("0 0 0 1", "0 0 0 0").replace("0.5 1\n", "0.5 0\n").replace("85 1\n", "85 0\n")
    (tmp_path / "nothing.cif").write_text(nothing)
    with pytest.raises(InputError, match="_atom_site_occupancy is 0 for every atom"):
        read_cif(tmp_path / "nothing.cif")


def test_no_text_of_a_cif_is_run_as_a_program(tmp_path):
    made = tmp_path / "made"
    name = "+".join(f"chr({ord(letter)})" for letter in str(made))
    (tmp_path / "evil.cif").write_text(CIF.read_text().replace(OPERATOR, f"\n-y,x-y,z+0*open({name},str(w)).close()\n"))
    sly = CIF.read_text().replace(OPERATOR, f"\n'-y,x-y,z+0*len(str(open({name},chr(119)).close()))'\n")
    (tmp_path / "sly.cif").write_text(sly)
    for evil in ("evil.cif", "sly.cif"):
        with pytest.raises(InputError, match="symmetry operator"):
            read_cif(tmp_path / evil)
    assert not made.exists()


def test_spaces_capitals_decimals_and_uncertainties_change_nothing(tmp_path):
    other = CIF.read_text().replace(OPERATOR, "\n' -Y, X-Y, +Z '\n").replace("x+2/3,y+1/3,z+1/3", "2/3+x,1/3+y,1/3+z")
    other = other.replace("Ni Ni 0 0 0 1", "Ni Ni 0.0 0 .0(1) 1").replace("2.878\n", "2.878(2)\n")
    (tmp_path / "LiNiO2.cif").write_text("data_global\n_journal_year 2024\n" + other)
    assert read_cif(tmp_path / "LiNiO2.cif") == LINIO2


def test_a_missing_cif_names_the_option(tmp_path):
    with pytest.raises(InputError, match="--phase"):
        read_cif(tmp_path / "none.cif")
