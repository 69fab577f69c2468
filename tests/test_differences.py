"""`datasets diff`: what came, went and changed; a dataset does not differ from itself, whatever its order."""

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from dpcurate.curate import build_dataset
from dpcurate.datasets_cli import app
from dpcurate.differences import Side, difference, side, told
from dpcurate.errors import InputError
from dpcurate.orientations import about_z, multiply
from dpcurate.schema import Source
from dpcurate.store import Dataset, open_dataset
from tests.small_scan import small_index
from tests.test_store_damage import flip

N = 60
SCAN = Source(kind="scan", scan_path="scan.hspy", scan_sha256="0" * 64)


@pytest.fixture(scope="module")
def whole(original):
    one = side(open_dataset(original))
    return Side(one.manifest.model_copy(update={"sources": (SCAN,)}), one.labels)


def part(one, rows, **changed):
    return Side(one.manifest, {name: values[rows] for name, values in one.labels.items()} | changed)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_what_came_and_went_is_what_is_in_one_dataset_only_in_any_order(whole, data):
    rows = st.permutations(range(N)).flatmap(lambda order: st.integers(0, N).map(lambda n: np.array(order[:n], int)))
    first, second = data.draw(rows), data.draw(rows)
    found = difference(part(whole, first), part(whole, second))
    assert set(first[found.went]) == set(first) - set(second)
    assert set(second[found.came]) == set(second) - set(first)
    assert first[found.first].tolist() == second[found.second].tolist()
    assert not found.changed.any()
    assert not found.other_split.any()
    back = difference(part(whole, second), part(whole, first))
    assert (len(back.came), len(back.went)) == (len(found.went), len(found.came))


@settings(max_examples=20, deadline=None)
@given(angle=st.floats(0.1, 20), row=st.integers(0, N - 1), equivalent=st.integers(0, 5))
def test_a_turned_label_is_told_with_its_angle_and_an_equivalent_one_is_not(whole, angle, row, equivalent):
    turned = whole.labels["orientation"].copy()
    turned[row] = multiply(turned[row], about_z(angle))
    symmetry = whole.manifest.phases[whole.labels["phase_id"][0]].proper_rotations()
    turned[0] = multiply(symmetry[equivalent], turned[0])
    found = difference(whole, part(whole, np.arange(N), orientation=turned))
    assert np.flatnonzero(found.changed).tolist() == [row]
    assert found.angle_deg[row] == pytest.approx(angle, abs=1e-4)


def test_another_number_of_the_same_phase_is_no_change_and_another_phase_is(whole):
    swapped = Side(
        whole.manifest.model_copy(update={"phases": whole.manifest.phases[::-1]}),
        whole.labels | {"phase_id": 1 - whole.labels["phase_id"]},
    )
    assert not difference(whole, swapped).changed.any()
    other = difference(whole, replace(swapped, labels=whole.labels))
    assert other.other_phase.all()
    assert np.isnan(other.angle_deg).all()


def test_pixels_of_a_scan_with_another_hash_are_other_patterns(whole):
    source = SCAN.model_copy(update={"scan_sha256": "1" * 64})
    changed = Side(whole.manifest.model_copy(update={"sources": (source,)}), whole.labels)
    found = difference(whole, changed)
    assert (len(found.came), len(found.went), len(found.first)) == (N, N, 0)


def test_a_pixel_that_is_there_twice_is_refused(whole):
    with pytest.raises(InputError, match="holds a pixel of a scan twice"):
        difference(whole, part(whole, np.array([0, 1, 1])))


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    index, root = small_index(tmp_path_factory.getbasetemp()), tmp_path_factory.mktemp("datasets")
    options = {"root": root, "progress": False, "name": "some"}
    return root, [build_dataset([index], min_confidence=limit, **options) for limit in (0.0, 0.8)]


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


def test_the_command_tells_which_pixels_a_higher_confidence_took(built, tmp_path):
    root, (low, high) = built
    n, left = (open_dataset(folder).n for folder in (low, high))
    shown = run("diff", f"some@{low.name}", "some", "--root", root, "--out", tmp_path / "rows.csv").stdout
    assert f"came                    0\nwent            {n - left:9d}  {n - left} of " in shown
    assert f"in both         {left:9d}\nchanged label           0" in shown
    with (tmp_path / "rows.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {row["what"] for row in rows} == {"went"}
    kept = {tuple(pixel) for pixel in open_dataset(high).read("pixel")}
    assert len(rows) == n - left
    assert not kept & {(int(row["row"]), int(row["column"])) for row in rows}
    assert "the same patterns with the same labels in the same splits" in run("diff", low, low).stdout


def test_the_same_simulation_goes_on_where_the_smaller_one_ends(whole):
    sources = (Source(kind="simulated", note="seed 0"),)
    manifests = [
        whole.manifest.model_copy(update={"sources": sources, "simulation": {"seed": 0, "number": n}}) for n in (40, N)
    ]
    labels = whole.labels | {"draw": np.arange(N), "pixel": np.full((N, 2), -1)}
    first, second = part(Side(manifests[0], labels), np.arange(40)), Side(manifests[1], labels)
    found = difference(first, second)
    assert found.came.tolist() == list(range(40, N))
    assert len(found.went) == 0
    assert told(first, second, found)[2].endswith("20 of seed 0")


def test_a_table_that_cannot_be_written_is_one_sentence(built):
    _, (low, high) = built
    with pytest.raises(InputError, match="--out"):
        run("diff", low, high, "--out", Path("no/such/folder/rows.csv"))


def test_a_damaged_dataset_is_named_with_its_file_and_no_table_is_written(built, tmp_path):
    _, (low, high) = built
    damaged = tmp_path / high.name
    shutil.copytree(high, damaged)
    (shard,) = (damaged / "orientation").rglob("c/0/0")
    flip(shard, 30)
    for pair in ((low, damaged), (damaged, low)):
        with pytest.raises(InputError, match=r"orientation/c/0/0: the shard is damaged"):
            run("diff", *pair, "--out", tmp_path / "rows.csv")
    shard.unlink()
    with pytest.raises(InputError, match="orientation/c/0/0"):
        run("diff", low, damaged, "--out", tmp_path / "rows.csv")
    assert not (tmp_path / "rows.csv").exists()


def test_a_label_of_a_phase_that_is_not_listed_is_refused(tiny_dataset, tmp_path):
    dataset = open_dataset(tiny_dataset(tmp_path))
    short = dataset.manifest.model_copy(update={"phases": dataset.manifest.phases[:1]})
    with pytest.raises(InputError, match="has phases 0 to 1, but its manifest lists 1 phases"):
        side(Dataset(dataset.path, short))
