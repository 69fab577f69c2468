import re
import shutil
from dataclasses import replace
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
from typer.testing import CliRunner

from dpcurate.crystal_maps import read_index
from dpcurate.errors import InputError
from dpcurate.orientations import disorientation_deg, turn_pattern
from dpcurate.recipe import Recipe, ScanRecipe, parse_center
from dpcurate.scans import open_scan, sha256_of
from dptrain.checkpoint import load_model
from dptrain.cli import main
from dptrain.extras import require
from dptrain.predict import network_answers, predict_scan, rival_probability, to_index
from tests.small_disk import small_disk
from tests.small_scan import scan_of, small_index, small_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return small_run(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def scan_path(tmp_path_factory):
    return scan_of(small_index(tmp_path_factory.getbasetemp()))


def test_a_prediction_reads_back_as_an_index_with_the_twenty_answers_of_the_network(run, scan_path):
    found = read_index(run / "small.predicted")
    predictor, scan = load_model(run), open_scan(scan_path)
    patterns = scan.patterns.compute().reshape(-1, *scan.patterns.shape[2:])
    calibration = scan.calibration
    orientation, probability, phase_id = predictor.predict(
        patterns, calibration.center_xy, calibration.scale_inv_angstrom, n_best=20
    )
    assert found.shape == (12, 12)
    np.testing.assert_allclose(found.candidate_orientation.reshape(-1, 20, 4), orientation)
    np.testing.assert_allclose(found.candidate_score.reshape(-1, 20), probability, rtol=1e-5)
    np.testing.assert_array_equal(found.phase_id.ravel(), phase_id[:, 0])
    np.testing.assert_allclose(found.confidence.ravel(), probability[:, 0], rtol=1e-5)
    assert np.isnan(found.correlation).all()
    assert ((found.reliability >= 0) & (found.reliability <= 1)).all()
    assert found.info["engine"] == "network cnn"
    assert found.info["checkpoint"]["sha256"] == sha256_of(run / "model.safetensors")


def test_unusable_patterns_are_skipped_and_counted(run, scan_path):
    scan = open_scan(scan_path)
    patterns = scan.patterns.compute().astype(np.float32)
    patterns[0, 0], patterns[1, 2], patterns[3, 4, 5, 5] = 0, -1, np.nan
    broken = replace(scan, patterns=da.from_array(patterns))
    answers = network_answers(load_model(run), broken, n_best=3, progress=False)
    assert {reason: int(mask.sum()) for reason, mask in answers.skipped.items()} == {
        "empty": 1,
        "negative": 1,
        "not finite": 1,
    }
    result = to_index(answers, load_model(run).phases, Recipe(), rotation_deg=0, info={})
    assert (result.phase_id < 0).sum() == 3
    assert result.confidence[0, 0] == result.reliability[1, 2] == 0


def test_a_turned_detector_turns_the_map_and_nothing_else(run, scan_path):
    predictor = load_model(run)
    answers = network_answers(predictor, open_scan(scan_path), n_best=5, progress=False)
    plain = to_index(answers, predictor.phases, Recipe(), rotation_deg=0, info={})
    turned = to_index(answers, predictor.phases, Recipe(), rotation_deg=30, info={})
    back = turn_pattern(turned.orientation, -30)
    symmetry = predictor.phases[0].proper_rotations()
    assert disorientation_deg(back, plain.orientation, symmetry).max() < 1e-6
    np.testing.assert_array_equal(turned.grain_id, plain.grain_id)
    np.testing.assert_array_equal(turned.reliability, plain.reliability)


def test_the_rival_lies_farther_away_than_asked_for(run, scan_path):
    predictor = load_model(run)
    answers = network_answers(predictor, open_scan(scan_path), n_best=5, progress=False)
    symmetry = predictor.phases[0].proper_rotations()
    rival = rival_probability(answers, [symmetry], apart_deg=40)
    for row, column in ((0, 0), (5, 7), (11, 3)):
        q, p = answers.orientation[row, column], answers.probability[row, column]
        far = [p[k] for k in range(5) if disorientation_deg(q[0], q[k], symmetry) > 40]
        assert rival[row, column] == pytest.approx(max(far, default=0))


def test_a_prediction_is_replaced_only_when_asked_and_never_a_run(run, scan_path):
    with pytest.raises(InputError, match="--overwrite"):
        predict_scan(run, scan_path, Recipe(), device="cpu")
    with pytest.raises(InputError, match="not an index folder"):
        predict_scan(run, scan_path, Recipe(), out=run, overwrite=True, device="cpu")


def test_a_full_disk_is_one_sentence_and_leaves_nothing(run, scan_path, tmp_path):
    with small_disk(tmp_path, size="100k"):
        with pytest.raises(InputError, match=r"cannot be written \(.*no space.*--out"):
            predict_scan(run, scan_path, Recipe(), out=tmp_path / "x", device="cpu")
        assert list(tmp_path.iterdir()) == []


def test_a_prediction_goes_to_a_relative_folder(run, scan_path, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert predict_scan(run, scan_path, Recipe(), out=Path("../x"), device="cpu").folder == Path("../x")
    assert read_index("../x").shape == (12, 12)


def test_a_scan_without_one_usable_pattern_is_refused(run, tmp_path):
    np.save(tmp_path / "empty.npy", np.zeros((2, 3, 32, 32), np.uint16))
    given = ScanRecipe(beam_energy_kev=200, scale_inv_angstrom=0.09, center_xy=(16, 16))
    with pytest.raises(InputError, match=r"empty.npy: none of its 6 patterns can be used \(6 empty\)"):
        predict_scan(run, tmp_path / "empty.npy", Recipe(scan=given), out=tmp_path / "x", device="cpu")
    assert not (tmp_path / "x").exists()


def test_a_scan_that_shows_less_than_the_network_looks_at_is_one_sentence_and_exit_code_2(run, tmp_path, capsys):
    np.save(tmp_path / "near.npy", np.ones((2, 3, 32, 32), np.uint16))
    options = ["--scale", "0.02", "--center", "16,16", "--beam-energy", "200", "--out", str(tmp_path / "x")]
    with pytest.raises(SystemExit) as end:
        main(["predict", str(run), str(tmp_path / "near.npy"), *options])
    assert end.value.code == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.search(
        r"error: .*near.npy: its patterns \(32 x 32 pixels\) reach 0.3 1/Å .* Check scale and centre", error
    )
    assert not (tmp_path / "x").exists()


def test_a_scan_without_calibration_is_refused_with_the_option_that_helps(run, tmp_path):
    np.save(tmp_path / "plain.npy", np.ones((2, 3, 32, 32), np.uint16))
    with pytest.raises(InputError, match="--beam-energy"):
        predict_scan(run, tmp_path / "plain.npy", Recipe(), device="cpu")
    assert not (run / "plain.predicted").exists()


def test_a_file_that_is_no_checkpoint_is_refused(run, scan_path, tmp_path):
    with pytest.raises(InputError, match="no such checkpoint"):
        predict_scan(tmp_path, scan_path, Recipe(), device="cpu")
    damaged = tmp_path / "model.safetensors"
    shutil.copy(run / "model.safetensors", damaged)
    damaged.write_bytes(damaged.read_bytes()[:1000])
    with pytest.raises(InputError, match="checkpoint"):
        predict_scan(damaged, scan_path, Recipe(), device="cpu")


def test_a_missing_package_names_the_extra():
    with pytest.raises(InputError, match=r"no_such_package.*\[curate\]"):
        require("predict", "no_such_package", "numpy")


def test_the_command_predicts_into_the_folder_named(run, scan_path, tmp_path):
    import typer

    from dptrain.predict_cli import register

    app = typer.Typer()
    register(app)
    out = tmp_path / "map"
    done = CliRunner().invoke(app, ["predict", str(run), str(scan_path), "--out", str(out), "--center", "64,64"])
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[-1] == str(out)
    plain = read_index(out)
    assert plain.info["calibration"]["center_xy"] == [64.0, 64.0]
    call = ["predict", str(run), str(scan_path), "--out", str(tmp_path / "mean"), "--center", "64,64", "--average"]
    assert CliRunner().invoke(app, call).exit_code == 0
    mean = read_index(tmp_path / "mean")
    assert (plain.info["views"], mean.info["views"]) == (1, 8)
    assert not np.allclose(plain.candidate_score, mean.candidate_score, atol=1e-3)
    with pytest.raises(InputError, match="COLUMN,ROW"):
        parse_center("64")
