import numpy as np
import pytest
from matplotlib.figure import Figure
from orix.quaternion import Orientation, Rotation

from dpcurate.figures import NOT_INDEXED, draw_color_key, ipf_colors
from dpcurate.orientations import multiply, random_uniform, turn_pattern
from tests.crystals import BY_LAUE_GROUP, LINIO2, NICKEL


@pytest.mark.parametrize("laue", ["-3m", "m-3m", "6/mmm", "mmm"])
def test_equivalent_orientations_and_in_plane_turns_have_one_colour(laue):
    phase = BY_LAUE_GROUP[laue]
    g = random_uniform(40, seed=1)
    phase_id = np.zeros(40, np.int16)
    colour = ipf_colors(g, phase_id, (phase,))
    for same in (multiply(phase.proper_rotations()[-1], g), turn_pattern(g, 50.0)):
        assert ipf_colors(same, phase_id, (phase,)) == pytest.approx(colour, abs=1e-6)


def test_the_beam_along_the_cube_axis_is_red_and_not_indexed_is_grey():
    colour = ipf_colors(np.array([[1.0, 0, 0, 0]] * 2), np.array([0, -1], np.int16), (NICKEL,))
    assert colour[0] == pytest.approx([1, 0, 0], abs=0.02)
    assert colour[1] == pytest.approx(NOT_INDEXED)


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
