"""An index folder keeps everything: what is read is what was written, and orix can open it."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from orix import io

from dpcurate.crystal_maps import patterns_per_second, read_index, to_crystal_map, write_index
from dpcurate.errors import InputError
from dpcurate.index_arrays import read_group, write_group
from dpcurate.orientations import random_uniform
from tests.crystals import LINIO2, NICKEL, TITANIUM
from tests.index_results import arrays_of, index_result

PHASES = (LINIO2, NICKEL, TITANIUM)
RECIPE = '[matching]\nengine = "fast"\n'


@pytest.fixture(scope="module")
def result():
    """Larger than a chunk in one direction; several phases, pixels not indexed."""
    return index_result((9, 70), phases=PHASES, n_best=4, seed=3)


@pytest.fixture(scope="module")
def index(result, tmp_path_factory):
    return write_index(result, tmp_path_factory.mktemp("kept") / "made.index", recipe_toml=RECIPE)


def test_every_array_comes_back_exactly(result, index):
    assert (result.phase_id == -1).any()
    again = read_index(index)
    written, read = arrays_of(result), arrays_of(again)
    assert read.keys() == written.keys()
    for name, values in written.items():
        assert read[name].dtype == values.dtype, name
        assert np.array_equal(read[name], values), name
    assert again.phases == result.phases


def test_scores_that_are_not_defined_come_back_too(result, tmp_path):
    network = replace(result, correlation=np.full(result.shape, np.nan, np.float32))
    again = read_index(write_index(network, tmp_path / "made.index", recipe_toml=""))
    assert np.isnan(again.correlation).all()


def test_what_is_read_and_written_again_is_the_same(index, tmp_path):
    again = write_index(read_index(index), tmp_path / "again.index", recipe_toml=RECIPE)
    assert (again / "index.json").read_text() == (index / "index.json").read_text()
    assert (again / "crystal_map.h5").read_bytes() == (index / "crystal_map.h5").read_bytes()


def test_index_json_counts_pixels_and_keeps_the_settings(result, index):
    info = json.loads((index / "index.json").read_text())
    counts = info["counts"]
    assert counts["pixels"] == 630
    assert counts["indexed"] == sum(counts["phases"].values()) == int((result.phase_id >= 0).sum())
    assert counts["phases"] == {phase.name: int((result.phase_id == k).sum()) for k, phase in enumerate(PHASES)}
    assert counts["grains"] == result.grain_id.max() + 1
    assert info["settings"] == {"matching": {"engine": "fast"}}
    assert info["patterns_per_second"] == pytest.approx(630 / 2.0)


@pytest.mark.parametrize("changed", [{"resumed": True}, {"seconds": {}}, {"seconds": {"library": 3.0}}])
def test_a_speed_that_is_not_known_is_not_stated(result, changed):
    assert patterns_per_second(replace(result, info=result.info | changed)) is None


def test_orix_opens_the_map_with_labels_scores_and_phases_of_candidates(result, index):
    crystal_map = io.load(str(index / "crystal_map.h5"))
    assert crystal_map.shape == result.shape
    assert crystal_map.rotations_per_point == 4
    assert [crystal_map.phases[k].name for k in range(3)] == ["LiNiO2", "Ni", "Ti"]
    assert (np.asarray(crystal_map.phase_id) == result.phase_id.ravel()).all()
    first = crystal_map.rotations.data[:, 0].reshape(*result.shape, 4)
    assert np.abs((first * result.orientation).sum(-1)) == pytest.approx(1, abs=1e-9)
    assert (crystal_map.prop["candidate_phase_id"].reshape(9, 70, 4) == result.candidate_phase_id).all()
    assert (crystal_map.prop["confidence"].reshape(9, 70) == result.confidence).all()


def test_a_label_that_is_not_the_best_candidate_comes_first_and_no_candidate_is_lost(result):
    label = random_uniform(630, seed=5).reshape(9, 70, 4)
    crystal_map = to_crystal_map(replace(result, orientation=label))
    rotations = crystal_map.rotations.data.reshape(9, 70, 5, 4)
    assert np.abs((rotations[:, :, 0] * label).sum(-1)) == pytest.approx(1, abs=1e-12)
    assert np.abs((rotations[:, :, 1:] * result.candidate_orientation).sum(-1)) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda folder: shutil.rmtree(folder / "labels.zarr"), "labels.zarr is missing"),
        (lambda folder: shutil.rmtree(folder / "labels.zarr" / "confidence"), "array confidence is missing"),
        (lambda folder: (folder / "labels.zarr" / "phase_id").rename(folder / "labels.zarr" / "x"), "array phase_id"),
        (lambda folder: (folder / "crystal_map.h5").unlink(), "crystal_map.h5"),
        (lambda folder: (folder / "candidates.zarr" / "score" / "c" / "0" / "0" / "0").unlink(), "damaged index"),
        (lambda folder: write_group(folder / "labels.zarr", {"extra": np.zeros((9, 70))}), "array extra is unknown"),
    ],
)
def test_an_incomplete_index_is_one_sentence(index, tmp_path, change, says):
    copy = shutil.copytree(index, tmp_path / "copy.index")
    change(copy)
    with pytest.raises(InputError, match="copy.index: damaged index") as error:
        read_index(copy)
    assert re.search(says, str(error.value))


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "int32", "float32", "float64"])
def test_groups_hold_every_kind_of_number(dtype, tmp_path):
    (tmp_path / "g.zarr").mkdir()
    values = np.random.default_rng(1).integers(0, 2, (130, 3, 2)).astype(dtype)
    write_group(tmp_path / "g.zarr", {"one": values, "two": values[:1]})
    read = read_group(tmp_path / "g.zarr")
    assert list(read) == ["one", "two"]
    assert read["one"].dtype == values.dtype
    assert np.array_equal(read["one"], values)
    assert np.array_equal(read["two"], values[:1])
