"""Measured orientation maps as microstructures: what was measured stays, and maps of other phases are refused."""

import numpy as np
import pytest
from orix import io
from orix.crystal_map import CrystalMap, Phase, PhaseList
from orix.quaternion import Rotation

from dpcurate.errors import InputError
from dpcurate.grain_maps import from_orientation_map
from dpcurate.grain_orientations import twin_rotation
from dpcurate.microstructure import Specimen
from dpcurate.orientations import disorientation_deg, equivalents, multiply
from tests.crystals import NICKEL, TITANIUM

EBSD = "tests/data/sdss_ferrite_austenite.ang"
AUSTENITE, FERRITE = (NICKEL.model_copy(update={"name": name}) for name in ("austenite", "ferrite"))
STEEL = [AUSTENITE, FERRITE]
SHARP = Specimen(probe_sigma_pixels=0)
CUBIC = NICKEL.proper_rotations()


def test_a_real_map_keeps_its_two_phases_and_its_measured_orientations():
    micro = from_orientation_map(EBSD, phases=STEEL, specimen=SHARP, seed=1)
    measured = np.loadtxt(EBSD)
    assert micro.shape == (40, 40)
    assert set(np.unique(micro.phase_id)) == {0, 1}
    same = micro.phase_id.ravel() == measured[:, 7] - 1
    assert same.mean() > 0.98  # the rest are pieces of a few pixels that joined a grain of the other phase
    euler = Rotation.from_euler(measured[:, :3])
    exact = disorientation_deg(micro.quat.reshape(-1, 4), euler.data, CUBIC) < 1e-6
    assert exact.mean() > 0.95
    assert (micro.grain >= 0).all()
    assert micro.grain.max() > 10


def test_the_twins_of_the_real_austenite_obey_the_default_twin_law():
    micro = from_orientation_map(EBSD, phases=STEEL, specimen=SHARP, seed=1)
    across = (micro.grain[:, 1:] != micro.grain[:, :-1]) & (micro.phase_id[:, 1:] + micro.phase_id[:, :-1] == 0)
    a, b = micro.quat[:, 1:][across], micro.quat[:, :-1][across]
    off = disorientation_deg(a[:, None], multiply(twin_rotation(NICKEL), equivalents(b, CUBIC)), CUBIC).min(axis=1)
    assert (off < 2).mean() > 0.5  # random boundaries: below 1 in 100


def test_a_real_map_can_be_cut_and_enlarged_with_overlap_at_its_boundaries():
    part = from_orientation_map(EBSD, phases=STEEL, crop=(5, 25, 10, 30), specimen=SHARP, seed=1)
    large = from_orientation_map(EBSD, phases=STEEL, crop=(5, 25, 10, 30), shape=(60, 60), seed=1)
    assert part.shape == (20, 20)
    assert large.shape == (60, 60)
    assert np.array_equal(large.grain[1::3, 1::3], part.grain)
    assert np.allclose(large.quat[1::3, 1::3], part.quat)
    assert 0.05 < (large.weight < 1).mean() < 0.6
    mixed = (large.weight < 1) & (large.phase_id == large.phase2_id)
    assert (disorientation_deg(large.quat[mixed], large.quat2[mixed], CUBIC) > 2).mean() > 0.9


def crystal_map(phase_id, orientation, *, name="Ni", space_group=225):
    rows, columns = phase_id.shape
    y, x = np.mgrid[:rows, :columns]
    phases = PhaseList([Phase(name, space_group=space_group)], ids=[0])
    return CrystalMap(
        Rotation(orientation.reshape(-1, 4)), phase_id=phase_id.ravel(), x=x.ravel(), y=y.ravel(), phase_list=phases
    )


@pytest.fixture
def two_grains():
    """Two grains side by side, with one pixel of another orientation and a hole."""
    orientation = np.tile([1.0, 0, 0, 0], (12, 16, 1))
    orientation[:, 8:] = [np.cos(0.3), np.sin(0.3), 0, 0]
    orientation[3, 3] = [np.cos(0.3), 0, np.sin(0.3), 0]
    phase_id = np.zeros((12, 16), int)
    phase_id[6:10, 2:5] = -1
    return phase_id, orientation


def test_holes_are_filled_or_left_empty_and_single_pixels_take_the_orientation_of_their_grain(two_grains):
    options = {"phases": [NICKEL], "specimen": SHARP, "seed": 1}
    filled = from_orientation_map(crystal_map(*two_grains), **options)
    empty = from_orientation_map(crystal_map(*two_grains), not_indexed="empty", **options)
    hole = two_grains[0] < 0
    assert (filled.phase_id == 0).all()
    assert np.array_equal(filled.grain, np.tile(np.arange(16) >= 8, (12, 1)))
    assert np.allclose(filled.quat[:, :8], [1, 0, 0, 0])
    assert (empty.phase_id[hole] == -1).all()
    assert (empty.grain[hole] == -1).all()
    assert (empty.phase_id[~hole] == 0).all()
    blurred = from_orientation_map(crystal_map(*two_grains), phases=[NICKEL], not_indexed="empty", seed=1)
    assert ((blurred.phase2_id == -1) & (blurred.phase_id == 0)).any()


def test_a_map_of_orix_file_is_read_like_the_map_itself(two_grains, tmp_path):
    io.save(tmp_path / "map.h5", crystal_map(*two_grains))
    read = from_orientation_map(tmp_path / "map.h5", phases=[NICKEL], seed=1)
    direct = from_orientation_map(crystal_map(*two_grains), phases=[NICKEL], seed=1)
    assert all(np.allclose(a, b) for a, b in zip(vars(read).values(), vars(direct).values(), strict=True))


def test_phase_names_say_which_phase_of_the_file_is_which():
    swapped = from_orientation_map(EBSD, phases=STEEL, phase_names=["FERRITE", "Austenite"], specimen=SHARP, seed=1)
    plain = from_orientation_map(EBSD, phases=STEEL, specimen=SHARP, seed=1)
    assert np.array_equal(swapped.phase_id, 1 - plain.phase_id)


def test_a_map_of_another_phase_is_refused_with_both_names(two_grains):
    titanium = TITANIUM.model_copy(update={"name": "ferrite"})
    cases = [
        ({"phases": [NICKEL, FERRITE]}, "phase Ni is not in it; its phases are austenite/austenite, ferrite/ferrite"),
        ({"phases": [AUSTENITE]}, "holds phase ferrite/ferrite, which is none of austenite"),
        ({"phases": [AUSTENITE, titanium]}, "ferrite/ferrite has Laue group m-3m, but phase ferrite has 6/mmm"),
        (
            {"phases": STEEL, "phase_names": ["austenite/austenite", "AUSTENITE"]},
            "phase AUSTENITE is not one phase of it",
        ),
        ({"phases": STEEL, "phase_names": ["austenite"]}, "1 names for 2 phases"),
        ({"phases": STEEL, "crop": (0, 50, 0, 10)}, "crop"),
    ]
    for options, message in cases:
        with pytest.raises(InputError, match=message):
            from_orientation_map(EBSD, seed=1, **options)
    with pytest.raises(InputError, match="no indexed pixel"):
        from_orientation_map(crystal_map(*two_grains), phases=[NICKEL], crop=(6, 10, 2, 5), seed=1)


def test_what_is_no_orientation_map_is_refused(two_grains, tmp_path):
    with pytest.raises(InputError, match="no such file"):
        from_orientation_map(tmp_path / "none.ang", phases=STEEL, seed=1)
    for name, text in (("broken.ang", "# nothing\n1 2 three\n"), ("notes.txt", "a"), ("bad.h5", "a"), ("bad.ctf", "a")):
        (tmp_path / name).write_text(text)
        with pytest.raises(InputError, match=f"{name}: not readable as an orientation map"):
            from_orientation_map(tmp_path / name, phases=STEEL, seed=1)
    line = crystal_map(*two_grains)[0, :]
    with pytest.raises(InputError, match="a map of rows and columns is needed"):
        from_orientation_map(line, phases=[NICKEL], seed=1)


def test_points_of_a_hexagonal_grid_are_refused():
    y, x = np.mgrid[:10, :10].astype(float)
    x[1::2] += 0.5
    orientation = np.tile([1.0, 0, 0, 0], (100, 1))
    staggered = CrystalMap(
        Rotation(orientation), x=x.ravel(), y=y.ravel(), phase_list=PhaseList([Phase("Ni", space_group=225)], ids=[0])
    )
    with pytest.raises(InputError, match="rectangular grid"):
        from_orientation_map(staggered, phases=[NICKEL], seed=1)


CTF = """Channel Text File
Prj\tx
Author\tx
JobMode\tGrid
XCells\t2
YCells\t2
XStep\t1
YStep\t1
AcqE1\t0
AcqE2\t0
AcqE3\t0
Euler angles refer to Sample Coordinate system (CS0)!
Phases\t1
{cell}\t{name}\t{laue}\t{group}\t\t\tx
Phase\tX\tY\tBands\tError\tEuler1\tEuler2\tEuler3\tMAD\tBC\tBS
"""


def ctf(*header):
    """A .ctf file of 2 x 2 pixels."""
    rows = [f"1\t{x}\t{y}\t8\t0\t10\t20\t30\t0.5\t100\t100\n" for y in (0, 1) for x in (0, 1)]
    return CTF.format(**dict(zip(("cell", "name", "laue", "group"), header, strict=True))) + "".join(rows)


def test_ctf_files_are_read_with_x_along_a_star(tmp_path):
    """In a cubic crystal that is a; in a hexagonal one a lies 30 degrees before it: phi2 is 30 degrees less."""
    cubic, hexagonal = tmp_path / "cubic.ctf", tmp_path / "hexagonal.ctf"
    cubic.write_text(ctf("3.52;3.52;3.52\t90;90;90", "Ni", 11, 225))
    hexagonal.write_text(ctf("2.951;2.951;4.684\t90;90;120", "Ti", 9, 194))
    for path, phase, euler in ((cubic, NICKEL, [10, 20, 30]), (hexagonal, TITANIUM, [10, 20, 0])):
        micro = from_orientation_map(path, phases=[phase], seed=1)
        expected = Rotation.from_euler(euler, degrees=True).data
        assert np.abs((micro.quat * expected).sum(-1)) == pytest.approx(1, abs=1e-9)
