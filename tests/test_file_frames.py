"""Frames of other formats against axes of the crystal worked out in the lab, never against a round trip alone."""

import numpy as np
import pytest
from orix.quaternion import Rotation

from dpcurate.errors import InputError
from dpcurate.file_frames import cell_axes, euler_deg, file_turn, from_file, to_file
from dpcurate.orientations import about_z, disorientation_deg, multiply, random_uniform, to_matrix
from dpcurate.phases import orix_phase, phase_from_cell
from tests.crystals import BADDELEYITE, BY_LAUE_GROUP, CEMENTITE, LINIO2, NICKEL, TITANIUM

TRICLINIC = phase_from_cell("X", 2, lattice=(4.0, 5.0, 6.0, 80, 95, 105), sites=[("Si", 0.1, 0.2, 0.3)])
EVERY = [*BY_LAUE_GROUP.values(), TRICLINIC]
IDENTITY = np.array([1.0, 0, 0, 0])


def bunge_matrix(euler):
    """Bunge's matrix: its rows are the crystal's x, y, z in the lab. Written down from his definition."""
    (c1, c, c2), (s1, s, s2) = np.cos(np.radians(euler)), np.sin(np.radians(euler))
    return np.array(
        [
            [c1 * c2 - s1 * s2 * c, s1 * c2 + c1 * s2 * c, s2 * s],
            [-c1 * s2 - s1 * c2 * c, -s1 * s2 + c1 * c2 * c, c2 * s],
            [s1 * s, -c1 * s, c],
        ]
    )


def unit(vector):
    return vector / np.linalg.norm(vector)


@pytest.mark.parametrize("phase", EVERY, ids=lambda phase: phase.point_group)
def test_axes_of_the_cell_are_those_of_orix(phase):
    assert cell_axes(phase.lattice) == pytest.approx(np.array(orix_phase(phase).structure.lattice.base), abs=1e-5)


@pytest.mark.parametrize("phase", EVERY, ids=lambda phase: phase.point_group)
def test_a_ctf_has_x_along_a_star_and_z_along_c(phase):
    """The first row of Bunge's matrix is a* in the lab, the third is c, for whatever orientation."""
    _, b, c = cell_axes(phase.lattice)
    for g in random_uniform(5, seed=1):
        matrix = bunge_matrix(euler_deg(multiply(file_turn(phase, "ctf"), g)))
        assert matrix[0] == pytest.approx(to_matrix(g).T @ unit(np.cross(b, c)), abs=1e-7)
        assert matrix[2] == pytest.approx(to_matrix(g).T @ unit(c), abs=1e-7)


@pytest.mark.parametrize("phase", EVERY, ids=lambda phase: phase.point_group)
def test_an_ang_has_x_along_a_but_for_monoclinic_phases(phase):
    a, b, c = cell_axes(phase.lattice)
    x = np.cross(b, c) if phase.point_group == "2/m" else a
    for g in random_uniform(5, seed=2):
        matrix = bunge_matrix(euler_deg(multiply(file_turn(phase, "ang"), g)))
        assert matrix[0] == pytest.approx(to_matrix(g).T @ unit(x), abs=1e-7)


@pytest.mark.parametrize(
    ("phase", "g", "by_hand"),
    [
        # a along the lab's x, b at 120 degrees, c along its z: a*, at right angles to b, is at +30 degrees.
        (LINIO2, IDENTITY, (30, 0, 0)),
        (TITANIUM, IDENTITY, (30, 0, 0)),
        (NICKEL, IDENTITY, (0, 0, 0)),
        # The crystal turned by 40 degrees from x towards y.
        (LINIO2, np.array([np.cos(np.radians(20)), 0, 0, -np.sin(np.radians(20))]), (70, 0, 0)),
        (NICKEL, np.array([np.cos(np.radians(20)), 0, 0, -np.sin(np.radians(20))]), (40, 0, 0)),
        # Tilted by 90 degrees about the lab's x: a stays on x, c comes to lie along -y; a* is 30 degrees on, towards b.
        (LINIO2, np.array([np.sqrt(0.5), -np.sqrt(0.5), 0, 0]), (0, 90, 30)),
        (TITANIUM, np.array([np.sqrt(0.5), -np.sqrt(0.5), 0, 0]), (0, 90, 30)),
        (NICKEL, np.array([np.sqrt(0.5), -np.sqrt(0.5), 0, 0]), (0, 90, 0)),
    ],
)
def test_euler_angles_of_a_ctf_are_those_worked_out_by_hand(phase, g, by_hand):
    written = to_file(g[None], np.array([0]), [phase], "ctf")
    assert bunge_matrix(euler_deg(written)[0]) == pytest.approx(bunge_matrix(by_hand), abs=1e-7)


def test_the_cell_of_a_ctf_is_the_one_that_mtex_writes_down():
    """geometry/@crystalSymmetry/private/calcAxis.m, its default: a, b, c along (sqrt(3)/2, -1/2, 0), y and z."""
    axes = cell_axes(TITANIUM.lattice) @ to_matrix(file_turn(TITANIUM, "ctf")).T
    a, _, c = TITANIUM.lattice[:3]
    expected = np.array([[a * np.sqrt(0.75), -a / 2, 0], [0, a, 0], [0, 0, c]])
    assert axes == pytest.approx(expected, abs=1e-9)


def test_the_other_way_round_by_30_degrees_would_be_another_orientation_of_a_trigonal_crystal():
    """So the sign is tested above, not only that there is a turn: 6/mmm alone would not tell."""
    right = to_file(IDENTITY[None], np.array([0]), [LINIO2], "ctf")
    wrong = multiply(about_z(30.0), IDENTITY)[None], multiply(about_z(-30.0), IDENTITY)[None]
    for symmetry, apart in ((LINIO2.proper_rotations(), 60), (TITANIUM.proper_rotations(), 0)):
        found = [float(disorientation_deg(one, right, symmetry)[0]) for one in wrong]
        assert sorted(found) == pytest.approx([0, apart], abs=1e-6)


@pytest.mark.parametrize("file_format", ["ctf", "ang", "h5"])
def test_what_was_turned_into_a_format_is_turned_back(file_format):
    g, phase_id = random_uniform(30, seed=3), np.arange(30) % 8 - 1
    there = to_file(g, phase_id, EVERY, file_format)
    assert from_file(there, phase_id, EVERY, file_format) == pytest.approx(g, abs=1e-12)
    assert (there[phase_id < 0] == g[phase_id < 0]).all()
    if file_format == "h5":
        assert (there == g).all()


def test_orthogonal_cells_have_one_frame_everywhere():
    for phase in (NICKEL, CEMENTITE):
        assert [file_turn(phase, name) for name in ("ctf", "ang")] == pytest.approx(
            np.tile(IDENTITY, (2, 1)), abs=1e-12
        )
    assert np.degrees(2 * np.arccos(file_turn(BADDELEYITE, "ang")[0])) == pytest.approx(9.2)


def test_euler_angles_are_those_of_orix():
    special = [IDENTITY, [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0, 0.6, 0.8, 0], [0.6, 0, 0, 0.8]]
    g = np.concatenate([random_uniform(200, seed=4), -random_uniform(200, seed=5), np.array(special, float)])
    mine = euler_deg(g)
    assert np.abs(np.einsum("ni,ni->n", Rotation.from_euler(mine, degrees=True).data, g)) == pytest.approx(1, abs=1e-12)
    assert mine[:400] == pytest.approx(np.degrees(Rotation(g[:400]).to_euler()), abs=1e-6)
    assert ((mine >= 0) & (mine < 360)).all()


def test_rhombohedral_axes_are_refused():
    cell = LINIO2.model_copy(update={"lattice": (5.0, 5.0, 5.0, 33.0, 33.0, 33.0)})
    for file_format in ("ctf", "ang"):
        with pytest.raises(InputError, match="LiNiO2: its cell has rhombohedral axes"):
            to_file(IDENTITY[None], np.array([0]), [cell], file_format)
