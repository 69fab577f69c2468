import numpy as np
import pytest
from matplotlib.figure import Figure
from orix.quaternion import Orientation, Rotation
from scipy.spatial.transform import Rotation as Rotation3

from dpcurate.color_keys import NOT_INDEXED, draw_color_key, ipf_colors
from dpcurate.orientations import conjugate, multiply, random_uniform, turn_pattern
from dpcurate.phases import phase_from_cell
from tests.crystals import BY_LAUE_GROUP, LINIO2, NICKEL

CHROMITE = phase_from_cell("made", 162, lattice=(5.0, 5.0, 9.0, 90, 90, 120), sites=[("Cr", 0.3, 0.1, 0.2)])
"""Of space group P-31m, in which the two-fold axes lie along a* in a place that orix takes for a."""


@pytest.mark.parametrize("phase", [*BY_LAUE_GROUP.values(), CHROMITE], ids=lambda phase: phase.name)
def test_equivalent_orientations_and_in_plane_turns_have_one_colour(phase):
    g = random_uniform(40, seed=1)
    phase_id = np.zeros(40, np.int16)
    colour = ipf_colors(g, phase_id, (phase,))
    for same in (*(multiply(one, g) for one in phase.proper_rotations()), turn_pattern(g, 50.0)):
        assert ipf_colors(same, phase_id, (phase,)) == pytest.approx(colour, abs=1e-6)


@pytest.mark.parametrize("laue", BY_LAUE_GROUP)
def test_a_crystal_frame_of_any_kind_changes_no_colour(laue):
    """As that of a cell in rhombohedral axes: the group's axes lie anywhere."""
    phase = BY_LAUE_GROUP[laue]
    turn = random_uniform(1, seed=3)[0]
    operations = multiply(multiply(turn, phase.proper_rotations()), conjugate(turn))
    askew = phase.model_copy(update={"symmetry": tuple(map(tuple, operations.tolist()))})
    g, phase_id = random_uniform(20, seed=2), np.zeros(20, np.int16)
    colours = ipf_colors(multiply(operations[:, None], g).reshape(-1, 4), np.tile(phase_id, len(operations)), (askew,))
    assert colours.reshape(-1, 20, 3) == pytest.approx(np.tile(colours[:20], (len(operations), 1, 1)), abs=1e-6)


def test_the_beam_along_the_cube_axis_is_red_and_not_indexed_is_grey():
    colour = ipf_colors(np.array([[1.0, 0, 0, 0]] * 2), np.array([0, -1], np.int16), (NICKEL,))
    assert colour[0] == pytest.approx([1, 0, 0], abs=0.02)
    assert colour[1] == pytest.approx(NOT_INDEXED)


@pytest.mark.parametrize(("direction", "corner"), [("x", [1, 0, 0]), ("y", [0, 0, 1]), ("z", [0, 1, 0])])
def test_colours_are_of_the_crystal_direction_along_the_lab_direction_asked_for(direction, corner):
    """A crystal is turned so that a direction of known colour lies there: [001] red, [101] green, [111] blue."""
    towards = {"x": [0, 0, 1], "y": [1, 1, 1], "z": [1, 0, 1]}[direction]
    axis = np.eye(3)["xyz".index(direction)]
    turn, _ = Rotation3.align_vectors([towards / np.linalg.norm(towards)], [axis])
    g = turn.as_quat(scalar_first=True)[None]
    assert ipf_colors(g, np.zeros(1, np.int16), (NICKEL,), direction)[0] == pytest.approx(corner, abs=0.02)


@pytest.mark.parametrize(
    ("phase", "corners"),
    [(NICKEL, {"$[111]$", "$[101]$", "$[001]$"}), (LINIO2, {r"$[0001]$", r"$[1\bar{1}00]$", r"$[10\bar{1}0]$"})],
)
def test_the_colour_key_names_its_corners(phase, corners):
    axes = Figure().subplots()
    draw_color_key(axes, phase)
    assert {text.get_text() for text in axes.texts} >= corners


@pytest.mark.parametrize("laue", BY_LAUE_GROUP)
def test_every_laue_group_has_a_colour_key(laue):
    axes = Figure().subplots()
    draw_color_key(axes, BY_LAUE_GROUP[laue])
    assert (axes.images[0].get_array()[..., 3] > 0).any()


def test_colours_are_those_of_orix():
    from orix.plot import IPFColorKeyTSL
    from orix.quaternion import symmetry

    g = random_uniform(20, seed=4)
    theirs = IPFColorKeyTSL(symmetry.Oh).orientation2color(Orientation(Rotation(g), symmetry=symmetry.Oh))
    assert ipf_colors(g, np.zeros(20, np.int16), (NICKEL,)) == pytest.approx(theirs)
