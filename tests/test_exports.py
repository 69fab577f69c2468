"""Files for other programs, read back by orix and line by line."""

import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from orix import io

import dpcurate
from dpcurate.cli import main
from dpcurate.crystal_maps import write_index
from dpcurate.errors import InputError
from dpcurate.exports import WRITERS
from dpcurate.file_frames import euler_deg, from_file, to_file
from dpcurate.grain_maps import from_orientation_map
from dpcurate.microstructure import Specimen
from tests.crystals import BADDELEYITE, BY_LAUE_GROUP, CEMENTITE, ILMENITE, LINIO2, NICKEL, TITANIUM
from tests.index_results import index_result

PHASES = (LINIO2, NICKEL, TITANIUM, BADDELEYITE)
STEP_NM = 0.373
"""No multiple of 0.01 nm: five decimals of a micrometre would bend the grid."""


@pytest.fixture(scope="module")
def result():
    return index_result((7, 11), phases=PHASES, n_grains=9, step_nm=STEP_NM, seed=2)


@pytest.fixture(scope="module")
def index(result, tmp_path_factory):
    return write_index(result, tmp_path_factory.mktemp("export") / "made.index", recipe_toml="")


def written(result, folder, file_format):
    """The file of a result; for speed without the pictures of an index where none is needed."""
    if file_format == "h5":
        return dpcurate.export(write_index(result, folder / "made.index", recipe_toml=""), file_format="h5")
    WRITERS[file_format](result, folder / f"made.{file_format}")
    return folder / f"made.{file_format}"


def rows_of(path):
    """The numbers of a .ctf file."""
    lines = path.read_text().splitlines()
    return np.loadtxt(lines[lines.index(next(line for line in lines if line.startswith("Phase\tX"))) + 1 :], ndmin=2)


def load(path):
    options = {"autogen_names": False} if path.suffix == ".ang" else {}
    return io.load(str(path), **options)


def overlaps(first, second):
    """Of quaternions up to their sign, 1 where they are equal."""
    return np.abs((first * second).sum(axis=-1))


@pytest.mark.parametrize("file_format", ["ctf", "ang"])
def test_orix_reads_back_every_pixel_of_several_phases(index, result, tmp_path, file_format):
    path = dpcurate.export(index, file_format=file_format, out=tmp_path / f"map.{file_format}")
    read = load(path)
    assert read.shape == result.shape
    assert (read.dx, read.dy) == pytest.approx((STEP_NM / 1000, STEP_NM / 1000), rel=1e-6)
    assert read.scan_unit == "um"
    in_file = np.asarray(read.phase_id).reshape(result.shape)
    assert (np.where(in_file < 0, 0, in_file) == result.phase_id + 1).all()
    indexed = result.phase_id >= 0
    quaternions = read.rotations.data.reshape(*result.shape, 4)
    turned_back = from_file(quaternions, result.phase_id, PHASES, file_format)
    assert overlaps(turned_back, result.orientation)[indexed] == pytest.approx(1, abs=1e-10)
    for number, phase in enumerate(PHASES):
        there = read.phases[number + 1]
        assert there.name == phase.name
        assert there.point_group.laue.name == phase.point_group
        assert there.structure.lattice.abcABG() == pytest.approx(phase.lattice, abs=1e-4)


def test_a_ctf_holds_scores_as_astar_does_and_says_where_there_is_no_solution(index, result, tmp_path):
    path = dpcurate.export(index, file_format="ctf", out=tmp_path / "map.ctf")
    rows, indexed = rows_of(path), (result.phase_id >= 0).ravel()
    assert (rows[:, 0] == result.phase_id.ravel() + 1).all()
    assert rows[:, 8] == pytest.approx(np.where(indexed, result.reliability.ravel(), 0), abs=1e-4)
    assert rows[:, 9] == pytest.approx(np.where(indexed, 255 * result.correlation.ravel(), 0), abs=0.51)
    assert rows[:, 10] == pytest.approx(np.where(indexed, 255 * result.confidence.ravel(), 0), abs=0.51)
    assert (rows[~indexed][:, [3, 5, 6, 7]] == 0).all()
    assert (rows[:, 4] == np.where(indexed, 0, 3)).all()
    euler = euler_deg(to_file(result.orientation, result.phase_id, PHASES, "ctf")).reshape(-1, 3)
    assert rows[indexed][:, 5:8] == pytest.approx(euler[indexed], abs=1e-5)
    header = path.read_text().splitlines()[:20]
    assert header[0] == "Channel Text File"
    assert {"XCells\t11", "YCells\t7", "XStep\t0.00037300", "YStep\t0.00037300", "Phases\t4"} <= set(header)
    assert any(re.fullmatch(r"2\.\d+;2\.\d+;14\.\d+\t90;90;120\tLiNiO2\t7\t166\t.*", line) for line in header)


def test_an_ang_marks_pixels_without_a_solution_as_tsl_does(index, result, tmp_path):
    read = load(dpcurate.export(index, file_format="ang", out=tmp_path / "map.ang"))
    indexed = (result.phase_id >= 0).ravel()
    assert read.prop["ci"] == pytest.approx(np.where(indexed, result.confidence.ravel(), -1), abs=1e-5)
    assert read.prop["iq"] == pytest.approx(np.where(indexed, result.correlation.ravel(), 0), abs=1e-5)
    assert (read.is_indexed == indexed).all()


@pytest.mark.parametrize("laue", BY_LAUE_GROUP)
@pytest.mark.parametrize("file_format", ["ctf", "ang"])
def test_every_laue_group_is_named_so_that_orix_knows_it(laue, file_format, tmp_path):
    made = index_result((2, 3), phases=(BY_LAUE_GROUP[laue],), n_grains=2)
    read = load(written(made, tmp_path, file_format))
    assert [phase.point_group.laue.name for key, phase in read.phases if key >= 0] == [laue]


def test_the_h5_holds_every_candidate_with_score_and_phase(index, result, tmp_path):
    read = load(dpcurate.export(index, file_format="h5", out=tmp_path / "map.h5"))
    assert read.rotations_per_point == result.candidate_score.shape[-1]
    candidates = result.candidate_orientation.reshape(-1, read.rotations_per_point, 4)
    assert overlaps(read.rotations.data, candidates) == pytest.approx(1, abs=1e-9)
    assert (read.prop["candidate_score"].reshape(result.candidate_score.shape) == result.candidate_score).all()
    assert (read.prop["candidate_phase_id"].reshape(result.candidate_score.shape) == result.candidate_phase_id).all()
    assert (np.asarray(read.phase_id) == result.phase_id.ravel()).all()


@pytest.mark.parametrize("file_format", ["ctf", "ang", "h5"])
def test_what_is_exported_comes_back_as_a_microstructure(file_format, tmp_path):
    phases = (LINIO2, NICKEL, TITANIUM)
    made = index_result((16, 18), phases=phases, n_grains=5, seed=4)
    made = replace(made, phase_id=np.maximum(made.phase_id, 0).astype(np.int16))
    path = written(made, tmp_path, file_format)
    sharp = Specimen(probe_sigma_pixels=0.05)
    micro = from_orientation_map(path, phases=phases, min_pixels=1, specimen=sharp, seed=0)
    assert (micro.phase_id == made.phase_id).all()
    assert overlaps(micro.quat, made.orientation) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("shape", [(1, 6), (6, 1)])
@pytest.mark.parametrize("file_format", ["ctf", "ang", "h5"])
def test_line_scans_are_exported(shape, file_format, tmp_path):
    made = index_result(shape, phases=(CEMENTITE, ILMENITE), n_grains=1)
    path = written(made, tmp_path, file_format)
    assert load(path).size == max(shape)


@pytest.mark.parametrize("file_format", ["ctf", "ang", "h5"])
def test_a_single_pixel_is_exported(file_format, tmp_path):
    """These orix 0.15 does not read back: it takes a single row for a single column."""
    made = index_result((1, 1), phases=(NICKEL,), n_grains=1)
    assert written(made, tmp_path, file_format).stat().st_size > 400


def test_scores_that_are_not_defined_are_0(tmp_path):
    made = index_result((3, 4))
    made = replace(made, correlation=np.full((3, 4), np.nan, np.float32))
    assert (rows_of(written(made, tmp_path, "ctf"))[:, 9] == 0).all()
    assert (load(written(made, tmp_path, "ang")).prop["iq"] == 0).all()


def ends(arguments):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    return end.value.code


def test_the_command_says_where_the_file_lies(index, tmp_path, capsys):
    assert ends(["export", str(index), "--format", "ctf", "--out", str(tmp_path / "a" / "map.ctf")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "a" / "map.ctf")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["map.ctf"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["none.index", "--format", "ctf"], "none.index: no index there"),
        (["{index}", "--format", "osc"], "format osc: unknown. Choose one of ctf, ang, h5"),
        (["{index}", "--format", "ctf", "--out", "{there}"], "map.ctf: exists already. Give --overwrite"),
        (["{index}", "--format", "ctf", "--out", "{folder}", "--overwrite"], "is a folder. Name a file"),
        (["{index}", "--format", "ang", "--out", "{there}/map.ang"], "cannot be written.*--out"),
        (["{index}", "--format", "h5", "--out", "/proc/map.h5"], "cannot be written.*--out"),
    ],
)
def test_bad_input_is_one_sentence_and_changes_nothing(index, tmp_path, capsys, arguments, says):
    (tmp_path / "map.ctf").write_text("precious")
    given = {"index": index, "there": tmp_path / "map.ctf", "folder": tmp_path}
    assert ends(["export", *(word.format(**given) for word in arguments)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert "Traceback" not in error
    assert re.search(says, error)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("map.ctf", "precious")]


@pytest.mark.parametrize(("name", "file"), [("a.b.index", "a.b.h5"), ("scan.predicted", "scan.predicted.h5")])
def test_a_file_lies_beside_its_index_and_is_named_after_it(index, tmp_path, name, file):
    shutil.copytree(index, tmp_path / name)
    assert dpcurate.export(tmp_path / name, file_format="h5") == tmp_path / file


def test_a_file_is_replaced_when_told(index, tmp_path):
    (tmp_path / "map.ctf").write_text("old")
    dpcurate.export(index, file_format="ctf", out=tmp_path / "map.ctf", overwrite=True)
    assert (tmp_path / "map.ctf").read_text().startswith("Channel Text File")


def test_a_phase_that_a_format_cannot_hold_is_named(tmp_path):
    askew = LINIO2.model_copy(update={"lattice": (5.0, 5.0, 5.0, 33.0, 33.0, 33.0)})
    index = write_index(index_result((3, 4), phases=(askew,)), tmp_path / "askew.index", recipe_toml="")
    for file_format in ("ctf", "ang"):
        with pytest.raises(InputError, match="LiNiO2: its cell has rhombohedral axes"):
            dpcurate.export(index, file_format=file_format)
    assert [path.name for path in tmp_path.iterdir()] == ["askew.index"]
