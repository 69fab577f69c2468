from pathlib import Path

import hyperspy.api as hs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpcurate.bad_patterns import unusable
from dpcurate.calibration import find_direct_beam, scale_of_axes, unit_of
from dpcurate.errors import InputError
from dpcurate.recipe import ScanRecipe, parse_center
from dpcurate.reflections import wavelength_angstrom
from dpcurate.scans import open_scan, sha256_of

DATA = Path("tests/data")
GIVEN = ScanRecipe(scale_inv_angstrom=0.02, beam_energy_kev=200, center_xy=(15.5, 15.5))


def signal(shape=(2, 3, 32, 32), *, units="1/Å", scale=0.02, energy=200.0, dtype=np.uint16):
    made = hs.signals.Signal2D(np.random.default_rng(0).poisson(3, shape).astype(dtype))
    for axis in made.axes_manager.signal_axes:
        axis.units, axis.scale = units, scale
    if energy:
        made.metadata.set_item("Acquisition_instrument.TEM.beam_energy", energy)
    return made


def test_the_demo_scan_is_calibrated_by_its_own_metadata():
    scan = open_scan(DATA / "demo.hspy")
    c = scan.calibration
    assert scan.patterns.shape == (36, 36, 128, 128)
    assert (c.beam_energy_kev, c.step_nm) == (200, 10)
    assert c.precession_deg == pytest.approx(0.7)
    assert c.scale_inv_angstrom == pytest.approx(2.6 / 124)
    assert c.center_xy == pytest.approx((64.3, 63.6), abs=0.05)


def test_a_scan_stays_on_disk_until_it_is_computed():
    patterns = open_scan(DATA / "demo.hspy").patterns
    assert len(patterns.dask) > 0
    assert patterns.numblocks[0] > 1


def test_the_nanomegas_file_opens_with_energy_and_rotation_from_its_header():
    scan = open_scan(DATA / "rosettasciio_test1.blo", ScanRecipe(scale_inv_angstrom=0.01))
    assert scan.patterns.shape == (3, 2, 144, 144)
    assert (scan.calibration.beam_energy_kev, scan.calibration.rotation_deg) == (200, 25)
    assert scan.calibration.step_nm == pytest.approx(12.8)


def test_an_impossible_camera_length_is_refused_not_used():
    with pytest.raises(InputError, match="edge at 5.78 rad.*--scale"):
        open_scan(DATA / "rosettasciio_test1.blo")


def test_options_overrule_metadata_and_say_so():
    scan = open_scan(signal(), ScanRecipe(beam_energy_kev=80, center_xy=(3, 4)))
    assert (scan.calibration.beam_energy_kev, scan.calibration.center_xy) == (80, (3, 4))
    assert scan.calibration.sources["beam_energy_kev"] == "recipe or option"
    assert scan.calibration.sources["precession_deg"] == "assumed"


def test_a_flip_mirrors_patterns_and_direct_beam_together():
    plain, flipped = (open_scan(signal(), GIVEN.model_copy(update={"flip": f, "center_xy": (10, 4)})) for f in (0, 1))
    assert (flipped.patterns.compute() == plain.patterns.compute()[:, :, ::-1]).all()
    assert flipped.calibration.center_xy == (10, 27)


def test_a_numpy_file_opens_with_a_recipe_through_a_memory_map(tmp_path):
    np.save(tmp_path / "scan.npy", np.ones((2, 3, 32, 32), np.uint16))
    assert open_scan(tmp_path / "scan.npy", GIVEN).patterns.shape == (2, 3, 32, 32)


@pytest.mark.parametrize(
    ("label", "per_angstrom"),
    [
        ("1/Å", 1),
        ("$A^{-1}$", 1),
        ("Å^-1", 1),
        ("A^-1", 1),
        ("1/nm", 0.1),
        ("nm^-1", 0.1),
        ("k_nm^-1", 0.1),
        ("Å⁻¹", 1),
    ],
)
def test_every_way_of_writing_the_unit_means_the_same(label, per_angstrom):
    assert scale_of_axes(signal(units=label), 200, name="s") == pytest.approx(0.02 * per_angstrom)


def test_milliradians_and_a_camera_length_become_inverse_angstrom():
    lambda_ = wavelength_angstrom(200)
    assert lambda_ == pytest.approx(0.02507934, rel=1e-5)
    assert scale_of_axes(signal(units="mrad", scale=0.5), 200, name="s") == pytest.approx(0.0005 / lambda_)
    with_length = signal(units="cm", scale=0.01)
    with_length.metadata.set_item("Acquisition_instrument.TEM.camera_length", 20.0)
    assert scale_of_axes(with_length, 200, name="s") == pytest.approx(0.01 / 20 / lambda_)


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=12))
def test_no_unit_text_makes_the_reader_fall(text):
    unit_of(text)


@settings(max_examples=15, deadline=None)
@given(x=st.floats(24, 40), y=st.floats(24, 40), seed=st.integers(0, 99))
def test_the_direct_beam_is_found_to_a_tenth_of_a_pixel(x, y, seed):
    rows, columns = np.mgrid[:64, :64]
    beam = 500 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 2 / 1.3**2)
    noisy = np.random.default_rng(seed).poisson(beam + 0.5, (3, 3, 64, 64))
    assert find_direct_beam(hs.signals.Signal2D(noisy)) == pytest.approx((x, y), abs=0.1)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, -500.0, 0.0])
def test_bad_patterns_do_not_move_the_direct_beam(bad):
    rows, columns = np.mgrid[:64, :64]
    patterns = np.tile(500 * np.exp(-((columns - 30.5) ** 2 + (rows - 33.25) ** 2) / 4) + 0.5, (3, 3, 1, 1))
    patterns[0, 1] = bad
    patterns[2, 2, 5:9, 5:9] = bad or 0.5
    assert find_direct_beam(hs.signals.Signal2D(patterns)) == pytest.approx((30.5, 33.25), abs=0.1)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1.0, 0.0])
def test_without_one_good_pattern_the_direct_beam_must_be_given(bad):
    bare = signal(dtype=np.float32)
    bare.data[:] = bad
    with pytest.raises(InputError, match="none of the 6 patterns.*--center"):
        open_scan(bare)


@pytest.mark.parametrize(
    ("metadata", "value", "says"),
    [
        ("beam_energy", 200000.0, "beam energy of 200000 keV.*10 to 3000.*--beam-energy"),
        ("beam_energy", 0.2, "beam energy of 0.2 keV.*--beam-energy"),
        ("rocking_angle", -5.0, "rocking angle of -5 mrad.*--precession"),
        ("rocking_angle", 700.0, "rocking angle of 700 mrad.*--precession"),
    ],
)
def test_impossible_metadata_name_the_option_that_overrules_them(metadata, value, says):
    wrong = signal()
    wrong.metadata.set_item(f"Acquisition_instrument.TEM.{metadata}", value)
    with pytest.raises(InputError, match=says):
        open_scan(wrong)
    given = GIVEN.model_copy(update={"precession_deg": 0.5})
    assert open_scan(wrong, given).calibration.precession_deg == 0.5


def test_a_beam_energy_in_volt_is_refused_as_an_option_too():
    with pytest.raises(InputError, match="200000 keV"):
        open_scan(signal(), GIVEN.model_copy(update={"beam_energy_kev": 200e3}))


@pytest.mark.parametrize("center", [(-1.0, 5.0), (5.0, 32.0), (500.0, 5.0)])
def test_a_centre_outside_the_detector_is_refused(center):
    with pytest.raises(InputError, match="the detector has 32 columns and 32 rows.*--center COLUMN,ROW"):
        open_scan(signal(), GIVEN.model_copy(update={"center_xy": center}))


@pytest.mark.parametrize("text", ["nan,nan", "inf,3", "3,-inf", "3", "a,b"])
def test_a_centre_that_is_no_place_is_refused_as_an_option(text):
    with pytest.raises(InputError, match=f"--center {text}: expected COLUMN,ROW"):
        parse_center(text)


@pytest.mark.parametrize("dtype", [np.complex64, np.dtype([("R", "u1"), ("G", "u1")]), "O"])
def test_patterns_that_are_no_real_numbers_are_refused(dtype):
    with pytest.raises(InputError, match="its patterns hold .*real numbers"):
        open_scan(hs.signals.BaseSignal(np.zeros((2, 2, 32, 32), dtype)).transpose(2), GIVEN)


@pytest.mark.parametrize("scale", [0.0, np.nan])
def test_an_axis_without_a_scale_is_refused(scale):
    flat = signal()
    for axis in flat.axes_manager.signal_axes:
        axis.scale, axis.offset = scale, 1.0
    with pytest.raises(InputError, match="--scale"):
        open_scan(flat)


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        ({"units": "<undefined>"}, "has the unit '<undefined>'.*--scale"),
        ({"units": "px"}, "--scale"),
        ({"energy": None}, "no beam energy.*--beam-energy"),
        ({"shape": (5, 32, 32)}, "1 scan and 2 detector axes"),
        ({"shape": (32, 32)}, "0 scan and 2 detector axes"),
        ({"shape": (2, 2, 8, 8)}, "at least 16 x 16"),
    ],
)
def test_what_is_missing_is_named_with_the_option_that_mends_it(broken, says):
    with pytest.raises(InputError, match=says):
        open_scan(signal(**broken))


def test_axes_of_different_scale_are_refused():
    uneven = signal()
    uneven.axes_manager.signal_axes[0].scale = 0.03
    with pytest.raises(InputError, match="differ in scale"):
        open_scan(uneven)


def test_a_missing_file_and_a_text_file_are_one_sentence(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        open_scan(tmp_path / "none.hspy")
    (tmp_path / "text.hspy").write_text("no scan")
    with pytest.raises(InputError, match=r"text.hspy: damaged or not a scan"):
        open_scan(tmp_path / "text.hspy")


@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
def test_a_truncated_file_is_one_sentence(tmp_path, share):
    whole = (DATA / "demo.hspy").read_bytes()
    (tmp_path / "cut.hspy").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(InputError, match=r"cut.hspy: damaged or not a scan"):
        open_scan(tmp_path / "cut.hspy")


def test_bad_patterns_are_told_apart_and_readout_noise_is_not_bad():
    patterns = np.full((5, 8, 8), 10.0)
    patterns[0, 3, 3] = np.nan
    patterns[1] *= -1
    patterns[2] = 0
    patterns[3, 0] = -0.5
    found = unusable(patterns)
    assert {reason: np.flatnonzero(mask).tolist() for reason, mask in found.items()} == {
        "not finite": [0],
        "negative": [1],
        "empty": [2],
    }


def test_a_hash_changes_with_any_byte_and_with_a_name_in_a_folder(tmp_path):
    folder = tmp_path / "a.zspy"
    folder.mkdir()
    (folder / "x").write_bytes(b"1")
    first = sha256_of(folder)
    (folder / "x").rename(folder / "y")
    assert sha256_of(folder) != first
    assert sha256_of(folder / "y") == "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b"
