"""`dpcurate doctor`: what is wrong with a scan is found, with the option that mends it; what is right is left alone."""

import functools
import json
import re
from pathlib import Path

import hyperspy.api as hs
import numpy as np
import pytest

import dpcurate
from dpcurate.checkup import Checkup, examine
from dpcurate.cli import main
from dpcurate.detector_findings import detector_findings
from dpcurate.diagnosis import anything_wrong, table, verdict_line
from dpcurate.errors import InputError
from dpcurate.findings import calibration_findings
from dpcurate.phases import read_cif
from dpcurate.recipe import PreprocessRecipe, ScanRecipe
from dpcurate.scans import open_scan
from tests.crystals import LINIO2, NICKEL

CIF = str(Path("datasets/phases/LiNiO2.cif").resolve())
SCALE, CENTER = 2.6 / 124, (64.3, 63.6)


@functools.cache
def small():
    """Every third row and column of the demonstration scan, 12 x 12, in memory."""
    return hs.load("tests/data/demo.hspy").inav[::3, ::3]


def changed(change=None, *, dtype=None, **metadata):
    """A copy of the small scan whose counts went through ``change``."""
    copy = small().deepcopy()
    if change is not None:
        copy.data = np.ascontiguousarray(change(copy.data.copy()))
    if dtype is not None:
        copy.data = copy.data.astype(dtype)
    for key, value in metadata.items():
        copy.metadata.set_item(f"Acquisition_instrument.TEM.{key}", value)
    return copy


def looked_at(signal, *phases, **given) -> Checkup:
    return examine(open_scan(signal, ScanRecipe(**given)), phases, PreprocessRecipe())


def findings(signal, *phases, **given):
    checkup = looked_at(signal, *phases, **given)
    return {found.check: found for found in [*calibration_findings(checkup), *detector_findings(checkup)]}


@functools.cache
def healthy():
    return findings(small(), LINIO2)


def test_a_sound_scan_has_nothing_wrong_and_says_what_cannot_be_known():
    found = healthy()
    assert {check: f.verdict for check, f in found.items() if f.verdict in ("wrong", "look")} == {}
    assert found["handedness (flip)"].verdict == found["scan rotation"].verdict == "cannot be known"
    assert "100% of" in found["phase"].found
    assert found["patterns"].found == "12 x 12 patterns of 128 x 128 uint16; 144 looked at"


@pytest.mark.parametrize(("factor", "verdict"), [(1.1, "wrong"), (0.9, "wrong"), (1.02, "look"), (0.98, "look")])
def test_a_wrong_scale_is_found_with_its_size_and_the_option(factor, verdict):
    found = findings(small(), LINIO2, scale_inv_angstrom=SCALE * factor)["scale"]
    assert found.verdict == verdict
    assert found.value == pytest.approx(factor - 1, abs=0.003)
    assert float(re.search(r"--scale (\S+),", found.advice)[1]) == pytest.approx(SCALE, rel=0.003)


def test_without_a_phase_the_scale_is_not_judged_and_the_ellipse_is():
    found = findings(small())
    assert found["scale"].verdict == "cannot be known"
    assert "--phase" in found["scale"].advice
    assert "phase" not in found


def test_a_centre_five_pixels_off_is_found_and_given():
    found = findings(small(), LINIO2, center_xy=(CENTER[0] - 3, CENTER[1] + 4))["centre"]
    assert found.verdict == "wrong"
    assert found.value == pytest.approx(5, abs=0.1)
    assert "--center 64.3,63.6" in found.advice


def test_with_a_flip_the_centre_is_given_as_the_file_has_it():
    found = findings(small(), LINIO2, center_xy=(CENTER[0], CENTER[1] + 5), flip=True)["centre"]
    assert "--center 64.3,63.6" in found.advice


def test_a_wrong_phase_is_called_wrong_and_its_scale_not_judged():
    found = findings(small(), read_cif("datasets/phases/Fe-bcc.cif"))
    assert found["phase"].verdict == "wrong"
    assert found["scale"].verdict == "cannot be known"


def test_two_phases_of_one_lattice_cannot_be_told_apart():
    twin = NICKEL.model_copy(update={"name": "Ni too"})
    alike = findings(small(), NICKEL, twin)["phases alike"]
    assert alike.verdict == "look"
    assert "Ni and Ni too" in alike.found
    assert "phases alike" not in findings(small(), NICKEL, LINIO2)


def drifted(data):
    """Patterns that move by six pixels from the first column of the scan to the last."""
    return np.stack([np.roll(data[:, c], round(6 * c / 11) - 3, axis=-1) for c in range(12)], axis=1)


def test_a_drift_of_the_centre_is_found():
    found = findings(changed(drifted), LINIO2)
    assert found["drift of the centre"].verdict == "wrong"
    assert found["drift of the centre"].value == pytest.approx(6, abs=0.5)
    assert found["scale"].verdict == "ok"


@pytest.mark.parametrize(("mrad", "verdict"), [(0.7, "wrong"), (12.2, "ok")])
def test_degrees_written_as_milliradians_are_noticed(mrad, verdict):
    found = findings(changed(rocking_angle=mrad))["precession"]
    assert found.verdict == verdict
    assert ("--precession 0.7" in found.advice) == (verdict == "wrong")


def test_faults_of_the_detector_are_named():
    def broken(data):
        data[..., 40] = 0
        data[..., 77, :] = 0
        data[..., 20, 20] = 500
        data[0, :4] = 0
        return data

    found = findings(changed(broken), LINIO2)
    assert "columns 40; rows 77" in found["faulty pixels"].found
    assert "1 hot" in found["faulty pixels"].found
    assert found["faulty pixels"].verdict == "look"
    assert "4 of them unusable (4 empty)" in found["patterns"].found
    assert found["scale"].verdict == found["phase"].verdict == "ok"


def test_saturation_is_told_apart_in_the_beam_and_in_spots():
    in_beam = findings(changed(lambda data: np.minimum(data, 200)))["saturation"]
    assert in_beam.verdict == "look"
    assert "direct beam" in in_beam.found
    in_spots = findings(changed(lambda data: np.minimum(data, 8)))["saturation"]
    assert in_spots.verdict == "wrong"
    assert healthy()["saturation"].verdict == "ok"


def test_too_little_dose_is_said_and_nothing_is_made_up():
    def thin(data):
        return np.random.default_rng(0).binomial(data, 0.01).astype(data.dtype)

    found = findings(changed(thin), LINIO2)
    assert found["dose"].verdict == "wrong"
    assert found["scale"].verdict == found["phase"].verdict == "cannot be known"
    assert "60 are needed" in found["scale"].found


def test_discs_that_overlap_are_noticed():
    from scipy.ndimage import uniform_filter

    found = findings(changed(lambda data: uniform_filter(data.astype(np.float32), (0, 0, 11, 11)) * 20), LINIO2)
    assert found["spots or discs"].verdict in ("look", "wrong")
    assert healthy()["spots or discs"].verdict == "ok"


def test_a_scale_at_which_no_reflection_falls_on_the_detector_is_refused():
    with pytest.raises(InputError, match=r"phase Ni: no reflection within 0.37.* 1/Å. Check its cell and the scale"):
        looked_at(small(), NICKEL, scale_inv_angstrom=0.005)


def test_a_detector_that_few_reflections_reach_is_wrong():
    found = findings(small(), LINIO2, scale_inv_angstrom=0.006)["detector"]
    assert found.verdict == "wrong"
    assert "1 distances of spots of LiNiO2" in found.found


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("doctor")
    small().save(folder / "small.hspy")
    return folder / "small.hspy"


def exit_code(*arguments):
    with pytest.raises(SystemExit) as end:
        main(["doctor", *map(str, arguments)])
    return end.value.code


def test_the_command_exits_with_0_and_leaves_picture_and_findings(saved, capsys):
    assert exit_code(saved, "--phase", CIF) == 0
    out = saved.with_name("small.doctor")
    assert sorted(path.name for path in out.iterdir()) == ["doctor.png", "findings.json", "report.txt"]
    shown = capsys.readouterr().out
    assert shown.startswith("beam energy")
    assert "0 wrong, 0 to look at" in shown
    record = json.loads((out / "findings.json").read_text(encoding="utf-8"))
    assert [finding["check"] for finding in record["findings"]][:2] == ["beam energy", "unit and scale"]


def test_the_command_exits_with_1_when_something_is_wrong(saved, tmp_path, capsys):
    assert exit_code(saved, "--phase", CIF, "--scale", "0.0189", "--out", tmp_path / "x") == 1
    assert re.search(r"scale +WRONG", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["none.hspy"], "none.hspy: no such file"),
        (["{scan}", "--phase", "none.cif"], "none.cif: no such file"),
        (["{scan}", "--center", "nan,nan"], "expected COLUMN,ROW"),
        (["{scan}", "--center", "500,64"], "the detector has 128 columns"),
        (["{scan}", "--scale", "1"], "edge at"),
        (["{scan}", "--out", "{folder}"], "holds small.*--out"),
    ],
)
def test_bad_input_is_one_sentence_exit_2_and_nothing_written(saved, tmp_path, capsys, monkeypatch, arguments, says):
    before = sorted(saved.parent.iterdir())
    monkeypatch.chdir(tmp_path)
    assert exit_code(*(word.format(scan=saved, folder=saved.parent) for word in arguments)) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert re.search(says, error)
    assert sorted(saved.parent.iterdir()) == before
    assert not list(tmp_path.iterdir())


def test_an_empty_scan_is_refused():
    empty = changed(lambda data: data * 0)
    with pytest.raises(InputError, match=r"--center"):
        dpcurate.doctor(empty)
    with pytest.raises(InputError, match=r"none of its 144 patterns can be used \(144 empty\)"):
        dpcurate.doctor(empty, scan__center_xy=CENTER)


def test_the_python_face_returns_frozen_records_and_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = dpcurate.doctor(small(), scan__scale_inv_angstrom=SCALE, phases=[CIF])
    assert not list(tmp_path.iterdir())
    assert not anything_wrong(found)
    assert verdict_line(found).startswith("0 wrong, ")
    assert all(len(line) <= 118 for line in table(found).splitlines())
    with pytest.raises(AttributeError):
        found[0].verdict = "wrong"
