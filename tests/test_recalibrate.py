"""Direct beam and scale come back from matches; what is right stays, and what is far off is told, not changed."""

from dataclasses import replace

import dask.array as da
import hyperspy.api as hs
import numpy as np
import pytest
from scipy.ndimage import affine_transform

from dpcurate.cli import main
from dpcurate.crystal_maps import read_index
from dpcurate.errors import InputError
from dpcurate.matchers import engine_of, read_mask
from dpcurate.orientations import disorientation_deg
from dpcurate.pipeline import match_scan
from dpcurate.polar import stretch_of
from dpcurate.recalibrate import recalibrated
from dpcurate.recipe import load_recipe
from dpcurate.scan_sample import ScanSample, sample_scan, spot_sigma_px
from dpcurate.scans import Scan, open_scan
from tests.crystals import LINIO2

FAST = load_recipe(matching__engine="fast", library__spacing_deg=3.0)


@pytest.fixture(scope="module")
def demo():
    """Every third pixel of the shipped scan along both axes; its calibration is right."""
    whole = open_scan("tests/data/demo.hspy")
    return Scan(path=None, patterns=whole.patterns[::3, ::3].rechunk().persist(), calibration=whole.calibration)


def displaced(scan, *, shift_xy=(0.0, 0.0), larger=0.0):
    c = scan.calibration
    changed = {
        "center_xy": tuple(np.add(c.center_xy, shift_xy)),
        "scale_inv_angstrom": c.scale_inv_angstrom * (1 + larger),
    }
    return replace(scan, calibration=c.model_copy(update=changed))


def off(scan, other):
    shift = np.subtract(scan.calibration.center_xy, other.calibration.center_xy)
    return np.hypot(*shift), abs(scan.calibration.scale_inv_angstrom / other.calibration.scale_inv_angstrom - 1)


@pytest.mark.parametrize(("shift_xy", "larger"), [((1.0, 0.0), 0.0), ((-0.9, 1.6), 0.0), ((1.0, 1.0), -0.02)])
def test_a_wrong_center_and_scale_are_put_right(demo, shift_xy, larger):
    found, report = recalibrated(displaced(demo, shift_xy=shift_xy, larger=larger), (LINIO2,), FAST)
    shift, scale = off(found, demo)
    assert shift < 0.1
    assert scale < 0.002
    assert report["applied"]
    assert report["said"].startswith("fitted to ")
    assert report["score_after"] > report["score_before"]
    assert found.calibration.sources["center_xy"].endswith("then fitted to matches")


@pytest.mark.parametrize("ellipse", [(0.008, 0.0), (-0.004, 0.006)])
def test_an_ellipse_is_put_right(demo, ellipse):
    """Frames are resampled so that rings become ellipses."""
    center = np.array(demo.calibration.center_xy)
    stretch = stretch_of(ellipse)
    back = np.linalg.inv(stretch[::-1, ::-1])
    offset = center[::-1] - back @ center[::-1]
    flat = np.asarray(demo.patterns, np.float32).reshape(-1, *demo.patterns.shape[2:])
    bent = np.stack([affine_transform(frame, back, offset, order=1) for frame in flat]).reshape(demo.patterns.shape)
    found, report = recalibrated(replace(demo, patterns=da.from_array(bent)), (LINIO2,), FAST)
    own, _ = recalibrated(demo, (LINIO2,), FAST)
    assert report["applied"]
    np.testing.assert_allclose(np.subtract(found.calibration.ellipse, own.calibration.ellipse), ellipse, atol=0.0025)
    assert found.calibration.sources["ellipse"] == "fitted to matches"


def test_a_right_calibration_is_left_alone_or_hardly_moved(demo):
    found, report = recalibrated(demo, (LINIO2,), FAST)
    shift, scale = off(found, demo)
    assert shift < 0.1
    assert scale < 0.002
    assert report["score_after"] > report["score_before"] - 1e-3


def test_what_is_far_off_is_told_and_not_changed(demo):
    wrong = displaced(demo, larger=0.04)
    found, report = recalibrated(wrong, (LINIO2,), FAST)
    assert found is wrong
    assert not report["applied"]
    assert "too far" in report["said"]
    assert report["larger_percent"] == pytest.approx(4, abs=0.5)


@pytest.mark.parametrize("choice", [{"matching__recalibrate": False}, {"matching__engine": "pyxem"}])
def test_nothing_is_fitted_where_nobody_asks(demo, choice):
    found, report = recalibrated(demo, (LINIO2,), load_recipe(**{"matching__engine": "fast"} | choice))
    assert found is demo
    assert report is None


def test_a_scan_of_few_patterns_is_left_alone(demo):
    found, report = recalibrated(replace(demo, patterns=demo.patterns[:2, :2]), (LINIO2,), FAST)
    assert found.calibration == demo.calibration
    assert "usable patterns were read, and the fit needs" in report["said"]


@pytest.mark.parametrize("sigma", [0.9, 1.4, 2.5])
def test_the_width_of_spots_is_measured_through_noise_and_background(sigma):
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:96, :96]
    patterns = []
    for _ in range(20):
        at, height = rng.uniform(20, 76, (12, 2)), 200 / sigma**2 * rng.uniform(0.3, 1, 12)
        spots = sum(
            h * np.exp(-((x - a) ** 2 + (y - b) ** 2) / (2 * sigma**2)) for (a, b), h in zip(at, height, strict=True)
        )
        patterns.append(rng.poisson(spots + 5 * np.exp(-np.hypot(x - 48, y - 48) / 20)))
    sample = ScanSample(np.array(patterns, np.float32), np.zeros((96, 96), bool))
    found = spot_sigma_px(sample, center_xy=(48.0, 48.0), inner_px=5, outer_px=46)
    assert found == pytest.approx(sigma, rel=0.06)


def test_without_spots_the_usual_width_is_taken():
    sample = ScanSample(np.zeros((3, 64, 64), np.float32), np.zeros((64, 64), bool))
    assert spot_sigma_px(sample, center_xy=(32.0, 32.0), inner_px=5, outer_px=30) == pytest.approx(0.55)


def test_dead_columns_are_found_and_do_no_harm(demo):
    c = demo.calibration
    broken = demo.patterns.compute().copy()
    broken[..., 80:83] = 0
    broken[..., 40, 41] = 5000
    scan = replace(
        demo, patterns=demo.patterns.map_blocks(lambda _: broken, dtype=broken.dtype, chunks=demo.patterns.shape)
    )
    sample = sample_scan(scan)
    assert sample.faulty[20:110, 80:83].all()
    assert sample.faulty[40, 41]
    assert sample.faulty.sum() < 3 * 128 + 20
    whole, hurt = (match_scan(s, (LINIO2,), FAST).matches.orientation[:, :, 0] for s in (demo, scan))
    same = disorientation_deg(whole, hurt, LINIO2.proper_rotations()) < 3
    assert same.mean() > 0.75
    assert c == scan.calibration


@pytest.mark.parametrize("name", ["stop.npy", "stop.png"])
def test_a_mask_of_the_beam_stop_takes_bins_out(demo, tmp_path, name):
    mask = np.zeros((128, 128), np.uint8)
    mask[60:, 55:75] = 255
    if name.endswith(".npy"):
        np.save(tmp_path / name, mask)
    else:
        from matplotlib.image import imsave

        imsave(tmp_path / name, np.stack([mask] * 3, axis=-1))
    assert (read_mask(str(tmp_path / name), (128, 128)) == (mask > 0)).all()
    (tmp_path / "r.toml").write_text(f'[preprocess]\nmask = "{name}"\n')
    recipe = load_recipe(tmp_path / "r.toml", matching__engine="fast", library__spacing_deg=8.0)
    engine = engine_of(demo, (LINIO2,), recipe, k_max=1.2)
    down = engine.transform.valid.shape[1] // 4
    assert not engine.transform.valid[10, down]
    assert engine.transform.valid[10, 3 * down]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: path.unlink(missing_ok=True), "cannot be read"),
        (lambda path: path.write_bytes(b"no mask"), "cannot be read"),
        (lambda path: np.save(path, np.zeros((3, 4))), r"is \(3, 4\), and the patterns are \(128, 128\)"),
    ],
)
def test_a_mask_that_does_not_fit_is_one_sentence(tmp_path, make, says):
    make(tmp_path / "mask.npy")
    with pytest.raises(InputError, match=says):
        read_mask(str(tmp_path / "mask.npy"), (128, 128))


@pytest.mark.parametrize(
    "choice",
    [
        {"preprocess__intensity": "power"},
        {"preprocess__background": "none"},
        {"preprocess__ring_power": 0.0},
        {"library__thickness_angstrom": 400.0},
    ],
)
def test_each_choice_of_preprocessing_reaches_the_engine(demo, choice):
    plain, other = (
        match_scan(
            replace(demo, patterns=demo.patterns[:3]),
            (LINIO2,),
            load_recipe(matching__engine="fast", library__spacing_deg=5.0, **c),
        )
        for c in ({}, choice)
    )
    assert not np.allclose(plain.matches.score, other.matches.score, atol=1e-3)


def test_the_command_says_what_was_fitted_and_the_index_keeps_it(tmp_path, capsys):
    part = hs.load("tests/data/demo.hspy", lazy=True).inav[0:8, 16:21]
    part.compute(show_progressbar=False)
    part.save(tmp_path / "cut.hspy")
    given = ["--phase", "datasets/phases/LiNiO2.cif", "--engine", "fast", "--spacing", "6", "--center", "65.3,63.6"]
    with pytest.raises(SystemExit) as end:
        main(["index", str(tmp_path / "cut.hspy"), *given])
    assert end.value.code == 0
    said = capsys.readouterr().out
    info = read_index(tmp_path / "cut.index").info
    assert info["recalibration"]["said"] in said
    assert info["recalibration"]["applied"]
    assert info["calibration"]["center_xy"] == pytest.approx([64.3, 63.6], abs=0.25)
    assert "recipe or option, then fitted to matches" in said
