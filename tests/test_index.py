"""`dpcurate index` from file to folder, on small cuts of the shipped scan, and on bad input."""

import json
import re
import resource
from pathlib import Path

import hyperspy.api as hs
import numpy as np
import pytest
from orix import io

import dpcurate
from dpcurate.cli import main
from dpcurate.crystal_maps import read_index, write_index
from dpcurate.errors import InputError
from dpcurate.orientations import disorientation_deg, turn_pattern
from dpcurate.pipeline import index_scan, match_scan, read_phases
from dpcurate.recipe import Recipe, load_recipe, recipe_toml
from dpcurate.scans import open_scan
from dpcurate.truth import read_truth
from tests.small_disk import small_disk

CIF = str(Path("datasets/phases/LiNiO2.cif").resolve())
COARSE = """
[preprocess]
n_radius = 50
n_azimuth = 180
[library]
spacing_deg = 3
"""


def recipe(**choices):
    return load_recipe(
        phases=[CIF], preprocess__n_radius=50, preprocess__n_azimuth=180, library__spacing_deg=3, **choices
    )


@pytest.fixture(scope="module")
def cut(tmp_path_factory):
    """A 6 x 7 cut of the demo scan around its green grain, with its truth, in a folder with a coarse recipe."""
    folder = tmp_path_factory.mktemp("cut")
    whole = hs.load("tests/data/demo.hspy", lazy=True)
    part = whole.inav[0:7, 16:22]
    part.compute(show_progressbar=False)
    part.save(folder / "cut.hspy", chunks=(2, 7, 128, 128))
    with np.load("tests/data/demo.truth.npz") as truth:
        np.savez(folder / "cut.truth.npz", **{key: truth[key][16:22, 0:7] for key in truth.files})
    (folder / "coarse.toml").write_text(f'phases = ["{CIF}"]\n' + COARSE)
    return folder


@pytest.fixture(scope="module")
def indexed(cut):
    main_ends(["index", str(cut / "cut.hspy"), "--recipe", str(cut / "coarse.toml")])
    return cut / "cut.index"


def main_ends(arguments, code=0):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == code


def test_the_command_writes_every_part_of_the_index_and_nothing_else(indexed):
    assert sorted(path.name for path in indexed.iterdir()) == [
        "candidates.zarr",
        "crystal_map.h5",
        "index.json",
        "labels.zarr",
        "maps",
        "recipe.toml",
    ]
    pictures = {path.name for path in (indexed / "maps").iterdir()}
    assert pictures >= {"deformation.png", "grains.png", "orientation.png", "scores.png"}
    assert not list(indexed.parent.glob("*.partial*"))


def test_most_labels_of_a_clear_grain_are_right(indexed, cut):
    result, truth = read_index(indexed), read_truth(cut / "cut.hspy")
    error = disorientation_deg(result.orientation, truth.quat, result.phases[0].proper_rotations())
    assert (error < 3).mean() > 0.5


def test_twenty_candidates_are_kept_best_first_in_map_and_store(indexed):
    result, crystal_map = read_index(indexed), io.load(str(indexed / "crystal_map.h5"))
    assert result.candidate_orientation.shape == (6, 7, 20, 4)
    assert (np.diff(result.candidate_score, axis=-1) <= 0).all()
    stored = crystal_map.rotations.data.reshape(6, 7, -1, 4)  # labels come first where neighbours changed one
    assert np.abs((stored[:, :, -20:] * result.candidate_orientation).sum(-1)) == pytest.approx(1, abs=1e-6)
    assert np.abs((stored[:, :, 0] * result.orientation).sum(-1)) == pytest.approx(1, abs=1e-6)
    assert set(crystal_map.prop) >= {"correlation", "reliability", "confidence", "grain_id"}
    assert crystal_map.scan_unit == "nm"


def test_the_index_says_what_it_read_and_how(indexed, cut):
    info = json.loads((indexed / "index.json").read_text())
    assert info["scan"]["path"] == str(cut / "cut.hspy")
    assert len(info["scan"]["sha256"]) == 64
    assert info["calibration"]["sources"]["center_xy"] == "found in the patterns"
    assert info["skipped"] == {"not finite": 0, "negative": 0, "empty": 0}
    assert load_recipe(indexed / "recipe.toml").library.spacing_deg == 3


def test_the_python_face_gives_the_same_map_from_a_signal_as_the_command_from_a_file(indexed, cut):
    crystal_map = dpcurate.index(hs.load(cut / "cut.hspy"), recipe=cut / "coarse.toml")
    same = np.abs((crystal_map.rotations.data[:, 0] * read_index(indexed).orientation.reshape(-1, 4)).sum(-1))
    assert same == pytest.approx(1, abs=1e-6)


def test_an_index_is_not_overwritten_unless_told(indexed, cut, capsys):
    before = (indexed / "index.json").read_bytes()
    main_ends(["index", str(cut / "cut.hspy"), "--recipe", str(cut / "coarse.toml")], code=2)
    assert "exists already" in capsys.readouterr().err
    assert (indexed / "index.json").read_bytes() == before


def test_an_interrupted_run_goes_on_from_the_bands_that_are_kept(cut, tmp_path):
    scan, phases, choices = open_scan(cut / "cut.hspy"), read_phases((CIF,)), recipe()
    whole = match_scan(scan, phases, choices, keep=tmp_path, band_patterns=14)
    bands = sorted(tmp_path.iterdir())
    assert [band.name[:13] for band in bands] == ["000000-000002", "000002-000004", "000004-000006"]
    bands[2].unlink()
    untouched = bands[0].stat().st_mtime_ns
    again = match_scan(scan, phases, choices, keep=tmp_path, band_patterns=14)
    assert bands[0].stat().st_mtime_ns == untouched
    assert (again.matches.orientation == whole.matches.orientation).all()
    assert (again.matches.score == whole.matches.score).all()


def test_bad_patterns_are_skipped_and_counted_never_labelled(cut, tmp_path, capsys):
    signal = hs.load(cut / "cut.hspy")
    signal.change_dtype("float32")
    signal.data[0, 0, 5, 5], signal.data[0, 1], signal.data[2, 2] = np.nan, 0, -signal.data[2, 2]
    signal.save(tmp_path / "bad.hspy")
    out = tmp_path / "bad.index"
    given = ["--recipe", str(cut / "coarse.toml"), "--center", "64.3,63.6", "--out", str(out)]
    main_ends(["index", str(tmp_path / "bad.hspy"), *given])
    assert "skipped 3 {'not finite': 1, 'negative': 1, 'empty': 1}" in capsys.readouterr().out
    result = read_index(out)
    skipped = np.zeros((6, 7), bool)
    skipped[0, 0] = skipped[0, 1] = skipped[2, 2] = True
    assert ((result.phase_id == -1) == skipped).all()
    assert (result.confidence[skipped] == 0).all()
    assert (result.grain_id[skipped] == -1).all()
    assert result.info["skipped"] == {"not finite": 1, "negative": 1, "empty": 1}


def test_a_known_turn_of_the_detector_turns_every_orientation(cut):
    plain, turned = (index_scan(cut / "cut.hspy", recipe(scan__rotation_deg=angle)) for angle in (0.0, 30.0))
    expected = turn_pattern(plain.orientation, 30.0)
    assert np.abs((expected * turned.orientation).sum(-1)) == pytest.approx(1, abs=1e-9)
    assert turned.confidence == pytest.approx(plain.confidence, abs=1e-6)


def test_two_phases_are_told_apart_by_their_correlation(cut):
    nickel = str(Path("datasets/phases/Ni.cif").resolve())
    result = index_scan(cut / "cut.hspy", recipe().model_copy(update={"phases": (nickel, CIF)}))
    assert [phase.name for phase in result.phases] == ["Ni", "LiNiO2"]
    assert (result.phase_id == 1).mean() > 0.8


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["none.hspy", "--phase", CIF], "none.hspy: no such file"),
        (["{scan}"], "no phase given.*--phase"),
        (["{scan}", "--phase", "none.cif"], "none.cif: no such file"),
        (["{scan}", "--phase", CIF, "--phase", CIF], "share a name"),
        (["{scan}", "--phase", CIF, "--center", "middle"], "expected COLUMN,ROW"),
        (["{scan}", "--phase", CIF, "--center", "1,1"], "reaches only"),
        (["{scan}", "--phase", CIF, "--spacing", "0"], "library.spacing_deg.*given 0"),
        (["{scan}", "--phase", CIF, "--engine", "magic"], "matching.engine.*given 'magic'"),
        (["{scan}", "--phase", CIF, "--scale", "1"], "edge at"),
        (["{scan}", "--phase", CIF, "--recipe", "none.toml"], "none.toml: no such recipe"),
    ],
)
def test_bad_input_is_one_sentence_exit_2_and_nothing_written(cut, tmp_path, capsys, arguments, says):
    command = [argument.format(scan=cut / "cut.hspy") for argument in arguments]
    main_ends(["index", *command, "--out", str(tmp_path / "x.index")], code=2)
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert "Traceback" not in error
    assert re.search(says, error)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("phases = 3", "phases"),
        ("[library]\nspacing = 3", "library.spacing.*not permitted"),
        ("[preprocess]\nk_max_inv_angstrom = 0.1", "must be above"),
        ("not toml", "not readable as TOML"),
    ],
)
def test_a_wrong_recipe_names_the_key(tmp_path, text, says):
    (tmp_path / "r.toml").write_text(text)
    with pytest.raises(InputError, match=says):
        load_recipe(tmp_path / "r.toml")


def test_a_recipe_written_is_the_recipe_read(tmp_path):
    chosen = recipe(scan__center_xy=(3.5, 4.5), scan__flip=True)
    (tmp_path / "r.toml").write_text(recipe_toml(chosen))
    assert load_recipe(tmp_path / "r.toml") == chosen
    assert load_recipe(tmp_path / "r.toml", library__spacing_deg=3).library.spacing_deg == 3
    assert isinstance(chosen, Recipe)


@pytest.mark.parametrize("most", [1_000, 40_000])
def test_a_limit_of_file_size_is_one_sentence_and_leaves_nothing(indexed, tmp_path, most):
    result, (soft, hard) = read_index(indexed), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        with pytest.raises(InputError, match=r"x.index: cannot be written \(limit of file size"):
            write_index(result, tmp_path / "x.index", recipe_toml="")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", ["16k", "100k", "150k"])
def test_a_full_disk_is_one_sentence_and_leaves_nothing(indexed, tmp_path, size):
    """Full in the crystal map, in the candidates, in the pictures."""
    result = read_index(indexed)
    with small_disk(tmp_path, size=size):
        with pytest.raises(InputError, match=r"x.index: cannot be written \(.*no space.*--out"):
            write_index(result, tmp_path / "x.index", recipe_toml="")
        assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_while_matching_is_one_sentence(cut, tmp_path):
    scan, phases = open_scan(cut / "cut.hspy"), read_phases((CIF,))
    with small_disk(tmp_path, size="8k"):
        with pytest.raises(InputError, match=r"cannot be written \(.*Free space"):
            match_scan(scan, phases, recipe(), keep=tmp_path / "kept")
        assert not list(tmp_path.rglob("*.npz"))


def test_an_index_is_written_and_read_through_a_relative_path(indexed, tmp_path, monkeypatch):
    result = read_index(indexed)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert write_index(result, Path("../x.index"), recipe_toml="") == Path("../x.index")
    again = read_index("../x.index")
    assert (again.candidate_score == result.candidate_score).all()


@pytest.mark.parametrize(
    ("out", "says"),
    [
        ("precious", "is not an index folder"),
        ("mixed", "holds thesis.tex"),
        ("afile", "is not an index folder"),
        ("afile/sub", "cannot be made.*--out"),
        ("/proc/x", "cannot be made.*--out"),
        ("/", "is not an index folder|cannot be made"),
        ("long" * 62, "cannot be made.*too long"),
    ],
)
def test_what_is_no_index_is_never_replaced(tmp_path, capsys, out, says):
    """Said before any work: the scan need not even exist."""
    for folder in ("precious", "mixed"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "thesis.tex").write_text("years of work")
    (tmp_path / "mixed" / "index.json").touch()
    (tmp_path / "afile").touch()
    before = sorted(tmp_path.rglob("*"))
    main_ends(["index", "none.hspy", "--phase", CIF, "--out", str(tmp_path / out), "--overwrite"], code=2)
    assert re.search(says, capsys.readouterr().err)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_scan_without_one_usable_pattern_is_refused(tmp_path, capsys):
    np.save(tmp_path / "empty.npy", np.zeros((2, 2, 128, 128), np.uint16))
    given = ["--phase", CIF, "--spacing", "15", "--scale", "0.02", "--beam-energy", "200", "--center", "64,64"]
    main_ends(["index", str(tmp_path / "empty.npy"), *given], code=2)
    assert "empty.npy: none of its 4 patterns can be used (4 empty)" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["empty.npy"]


@pytest.mark.parametrize(
    "damaged", ["index.json", "crystal_map.h5", "candidates.zarr/score/zarr.json", "labels.zarr/phase_id/c/0/0"]
)
def test_a_damaged_index_is_one_sentence(indexed, tmp_path, damaged):
    import shutil

    copy = shutil.copytree(indexed, tmp_path / "copy.index")
    (copy / damaged).write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"copy.index: damaged index"):
        read_index(copy)
