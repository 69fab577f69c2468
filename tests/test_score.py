"""`dpcurate score`: an index gets its confidence anew, adjusted to virtual scans in its likeness if so wished."""

import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from dpcurate import rescoring
from dpcurate.cli import main
from dpcurate.confidence_figure import write_confidence
from dpcurate.crystal_maps import read_index, write_index
from dpcurate.pipeline import index_scan
from dpcurate.recipe import load_recipe, recipe_toml
from tests.small_scan import small_index

CIF = str(Path("datasets/phases/LiNiO2.cif").resolve())


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """An index of the small scan by matching, coarse and quick."""
    scan = small_index(tmp_path_factory.getbasetemp()).with_suffix(".hspy")
    out = tmp_path_factory.mktemp("score") / "small.index"
    coarse = {"preprocess__n_radius": 50, "preprocess__n_azimuth": 180, "library__spacing_deg": 3}
    index_scan(scan, load_recipe(phases=[CIF], **coarse), out=out)
    return out


def score(*arguments, code=0):
    with pytest.raises(SystemExit) as end:
        main(["score", *map(str, arguments)])
    assert end.value.code == code


def test_a_fresh_index_has_the_confidence_that_score_gives(index, capsys):
    before = read_index(index)
    assert (before.expected_error_deg[before.phase_id < 0] == 180).all()
    score(index)
    assert "confidence 0.8 and above" in capsys.readouterr().out
    after = read_index(index)
    np.testing.assert_array_equal(after.confidence, before.confidence)
    np.testing.assert_array_equal(after.candidate_score, before.candidate_score)
    assert after.info["confidence"] == before.info["confidence"]
    assert after.info["confidence"]["slope"] == 1
    assert len(after.info["confidence"]["calibrator_sha256"]) == 64


def test_calibrate_simulates_the_likeness_goes_on_where_it_stopped_and_says_so(index, capsys, monkeypatch):
    monkeypatch.setattr(rescoring, "SIDE", 10)
    work = index.with_name(index.name + rescoring.WORK)
    result = read_index(index)
    first = rescoring.likeness_scans(result, work, scans=1, seed=3)
    stamp = (work / "00.index" / "index.json").stat().st_mtime_ns
    assert len(first) == 1
    assert read_index(work / "00.index").phases == result.phases
    again = rescoring.likeness_scans(result, work, scans=1, seed=3)
    assert (work / "00.index" / "index.json").stat().st_mtime_ns == stamp
    np.testing.assert_array_equal(again[0].features, first[0].features)
    score(index, "--calibrate", "--scans", "1", "--seed", "3")
    assert "1 virtual scans" in capsys.readouterr().out
    assert not work.exists()
    info = json.loads((index / "index.json").read_text(encoding="utf-8"))["confidence"]
    assert info["virtual_scans"] == 1
    assert info["virtual_grains"] >= 1
    assert (info["slope"], info["offset"]) != (1, 0)
    order = np.argsort(result.confidence.ravel(), kind="stable")
    assert (np.diff(read_index(index).confidence.ravel()[order]) >= -1e-6).all()


def test_an_index_without_neighbours_has_no_calibrated_confidence(tmp_path_factory, capsys):
    alone = small_index(tmp_path_factory.getbasetemp())
    before = (alone / "index.json").read_bytes()
    score(alone, code=2)
    assert "neighbours.pool = true" in capsys.readouterr().err
    assert (alone / "index.json").read_bytes() == before
    score(alone.with_name("nowhere.index"), code=2)
    assert "no index there" in capsys.readouterr().err


def test_where_phase_or_scale_is_wrong_no_label_is_trusted(index, tmp_path):
    result = read_index(index)
    result.info["spots_explained"]["warning"] = "Only 10% of the spots lie where a template has one."
    wrong = write_index(result, tmp_path / "wrong.index", recipe_toml=recipe_toml(load_recipe(phases=[CIF])))
    score(wrong)
    doubted = read_index(wrong)
    assert 0 < doubted.confidence.max() <= 0.2
    assert doubted.expected_error_deg.min() > result.expected_error_deg.min()


def test_the_picture_has_a_reliability_diagram_where_the_truth_is_known(index, tmp_path):
    assert (index / "maps" / "confidence.png").is_file()
    trust = np.linspace(0, 1, 200)
    without = imread(write_confidence(trust, None, tmp_path / "without.png")).shape
    known = imread(write_confidence(trust, trust > 0.4, tmp_path / "known.png")).shape
    assert known == (without[0], without[1] * 3 // 2, 4)
