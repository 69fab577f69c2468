"""`dpcurate index --preview`: a wrong phase, scale or centre is said in seconds, and nothing else is written."""

import json
from pathlib import Path

import hyperspy.api as hs
import numpy as np
import pytest

from dpcurate.cli import main
from dpcurate.errors import InputError
from dpcurate.explained import Explained, spots_explained
from dpcurate.preview import first_pixel, preview_scan, thinned
from dpcurate.recipe import load_recipe
from dpcurate.scans import open_scan
from dpcurate.truth import read_truth
from tests.crystals import LINIO2

CIF = str(Path("datasets/phases/LiNiO2.cif").resolve())
WRONG = str(Path("datasets/phases/Fe-bcc.cif").resolve())
SCALE = 2.6 / 124
K_RANGE = (0.15, 1.3)


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    folder = tmp_path_factory.mktemp("preview")
    hs.load("tests/data/demo.hspy").inav[::3, ::3].save(folder / "small.hspy")
    return folder / "small.hspy"


def previewed(scan, phase=CIF, **choices):
    recipe = load_recipe(phases=[phase], matching__engine="fast", library__spacing_deg=4, **choices)
    return preview_scan(scan, recipe, every=2)


def test_a_thinned_scan_holds_every_kth_pixel_from_the_middle_of_a_step():
    whole = open_scan("tests/data/demo.hspy")
    few = thinned(whole, 5)
    assert few.shape == (7, 7)
    assert first_pixel((36, 36), 5) == (2, 2)
    assert (few.patterns[1, 2].compute() == whole.patterns[7, 12].compute()).all()
    assert few.calibration.step_nm == 5 * whole.calibration.step_nm
    assert thinned(whole, 500).shape == (1, 1)


def test_the_truth_explains_nearly_all_spots_and_a_turned_one_none():
    whole, truth = open_scan("tests/data/demo.hspy"), read_truth(Path("tests/data/demo.hspy"))
    phase_id = np.zeros(whole.shape, np.int16)
    right = spots_explained(whole, truth.quat, phase_id, [LINIO2], k_range=K_RANGE)
    wrong = spots_explained(whole, np.roll(truth.quat, 13, axis=1), phase_id, [LINIO2], k_range=K_RANGE)
    assert right.n_spots > 300
    assert right.beyond_chance > 0.75  # templates have no dynamical spots, and boundary pixels two grains
    assert right.warning([LINIO2]) is None
    assert wrong.beyond_chance < 0.4
    assert "wrong phase, scale or centre" in str(wrong.warning([LINIO2]))


def test_nothing_is_said_of_too_few_spots():
    assert Explained(20, 0.1, 0.0).warning([LINIO2]) is None
    whole = open_scan("tests/data/demo.hspy")
    none = np.full(whole.shape, -1, np.int16)
    assert spots_explained(whole, np.zeros((*whole.shape, 4)), none, [LINIO2], k_range=K_RANGE).n_spots == 0


def test_the_right_input_brings_no_warning(scan):
    preview = previewed(scan)
    assert preview.good.shape == (6, 6)
    assert preview.explained.warning(preview.phases) is None
    assert preview.in_scan(2, 3) == (5, 7)
    assert "6 x 6 pixels, one in 2 in both directions: median correlation 0." in preview.summary()


@pytest.mark.parametrize(
    ("phase", "choices"),
    [
        (WRONG, {}),
        (CIF, {"scan__scale_inv_angstrom": SCALE * 1.1}),
        (CIF, {"scan__center_xy": (61.3, 67.6)}),
    ],
    ids=["phase", "scale", "centre"],
)
def test_a_wrong_input_is_said_in_one_sentence(scan, phase, choices):
    preview = previewed(scan, phase, **choices)
    assert "wrong phase, scale or centre" in str(preview.explained.warning(preview.phases))


def run(*arguments, code=0):
    with pytest.raises(SystemExit) as end:
        main(["index", *map(str, arguments)])
    assert end.value.code == code


def test_the_command_writes_one_picture_and_nothing_else(scan, capsys):
    before = set(scan.parent.iterdir())
    run(scan, "--phase", CIF, "--engine", "fast", "--spacing", "5", "--preview-every", "3")
    assert set(scan.parent.iterdir()) - before == {scan.with_name("small.preview.png")}
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith("4 x 4 pixels, one in 3")
    assert shown[-1] == str(scan.with_name("small.preview.png"))
    scan.with_name("small.preview.png").unlink()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--phase", "none.cif"], "none.cif: no such file"),
        (["--phase", CIF, "--center", "nan,nan"], "expected COLUMN,ROW"),
        (["--phase", CIF, "--center", "-300,64"], "the detector has 128 columns"),
        (["--phase", CIF, "--out", "none/x.png"], "none: no such folder"),
        (["--phase", CIF, "--scale", "0.0005"], "reaches only"),
    ],
)
def test_bad_input_is_one_sentence_and_nothing_is_written(scan, tmp_path, monkeypatch, capsys, arguments, says):
    monkeypatch.chdir(tmp_path)
    before = sorted(scan.parent.iterdir())
    run(scan, "--preview", *arguments, code=2)
    assert says in capsys.readouterr().err
    assert sorted(scan.parent.iterdir()) == before
    assert list(tmp_path.iterdir()) == []


def test_a_distance_below_one_is_refused(scan):
    with pytest.raises(InputError, match="--preview-every 0"):
        preview_scan(scan, load_recipe(phases=[CIF]), every=0)


def test_the_record_of_what_explains_is_plain_numbers():
    assert json.dumps(vars(Explained(100, 0.9, 0.1)))
    assert Explained(100, 0.9, 0.1).beyond_chance == pytest.approx(8 / 9)
