import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpcurate import store
from dpcurate.errors import InputError
from tests.conftest import noise


def flip(path, position, bit=0):
    content = bytearray(path.read_bytes())
    content[position] ^= 1 << bit
    path.write_bytes(content)


@settings(max_examples=40, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_no_flipped_bit_of_a_shard_is_read_as_data(original, tmp_path_factory, place, bit):
    copy = Path(shutil.copytree(original, tmp_path_factory.mktemp("flip") / "v"))
    shard = copy / "patterns/c/0/0/0"
    flip(shard, int(place * shard.stat().st_size), bit)
    with pytest.raises(InputError, match="patterns/c/0/0/0: the shard is damaged"):
        store.open_dataset(copy).patterns(np.arange(60))
    assert store.verify(copy) == [f"{shard}: damaged, its content is not what was written (patterns 0 to 59)."]


def test_a_damaged_pattern_is_named_and_the_others_can_be_read(write, tmp_path):
    patterns = noise(1100)
    path = write(tmp_path, patterns)
    flip(path / "patterns/c/1/0/0", 5)
    dataset = store.open_dataset(path)
    with pytest.raises(InputError, match="patterns/c/1/0/0: the shard is damaged or missing at pattern 1024 "):
        dataset.patterns(np.array([1030, 5, 1024]))
    assert np.array_equal(dataset.patterns(np.array([1025, 1023])), patterns[[1025, 1023]])


def test_a_missing_shard_is_an_error_before_and_after_opening_and_never_zeros(dataset):
    opened = store.open_dataset(dataset)
    (dataset / "patterns/c/0/0/0").unlink()
    with pytest.raises(InputError, match="damaged or missing at pattern 7 "):
        opened.patterns(np.array([7]))
    with pytest.raises(InputError, match="patterns/c/0/0/0: missing"):
        store.open_dataset(dataset)


def test_patterns_of_zeros_are_stored_as_such(write, tmp_path):
    dataset = store.open_dataset(write(tmp_path, np.zeros((5, 4, 4), np.uint8)))
    assert not dataset.patterns(np.arange(5)).any()


def test_a_truncated_shard_does_not_open(dataset):
    os.truncate(dataset / "patterns/c/0/0/0", 100)
    with pytest.raises(InputError, match="100 bytes instead of"):
        store.open_dataset(dataset)


def test_a_damaged_label_names_its_file(dataset):
    flip(dataset / "orientation/c/0/0", 30)
    with pytest.raises(InputError, match="orientation/c/0/0: the shard is damaged"):
        store.open_dataset(dataset).read("orientation")


def test_verify_names_the_patterns_of_a_damaged_shard(write, tmp_path):
    path = write(tmp_path, noise(1100))
    flip(path / "patterns/c/1/0/0", 5)
    os.truncate(path / "confidence/c/0", 10)
    first, second = store.verify(path)
    assert first.startswith(f"{path}/confidence/c/0: 10 bytes instead of ")
    assert first.endswith(" (patterns 0 to 1099).")
    assert second.endswith("patterns/c/1/0/0: damaged, its content is not what was written (patterns 1024 to 1099).")


def test_verify_names_what_is_damaged_missing_and_extra(dataset):
    assert store.verify(dataset) == []
    flip(dataset / "scale/c/0", 3)
    (dataset / "split/c/0").unlink()
    (dataset / "patterns/note.txt").write_text("mine")
    assert [problem.removeprefix(f"{dataset}/") for problem in store.verify(dataset)] == [
        "scale/c/0: damaged, its content is not what was written (patterns 0 to 59).",
        "split/c/0: missing (patterns 0 to 59).",
        "patterns/note.txt: extra, not a file of this dataset.",
    ]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text[:200], "not a dataset's manifest"),
        (lambda text: f"[{text}]", "not a dataset's manifest"),
        (lambda text: json.dumps(json.loads(text) | {"format_version": 3}), "format version 3, .* update dpcurate"),
        (
            lambda text: json.dumps(json.loads(text) | {"format_version": 1}),
            "format version 1 .* build this dataset again",
        ),
        (lambda text: json.dumps(json.loads(text) | {"colour": 1}), "not a dataset's manifest"),
        (lambda text: text.replace('"cubic"', '"nickel"'), "does not agree with its own version"),
    ],
)
def test_a_manifest_that_is_cut_newer_or_edited_is_refused(dataset, change, said):
    file = dataset / "manifest.json"
    file.write_text(change(file.read_text()))
    with pytest.raises(InputError, match=said):
        store.open_dataset(dataset)


def test_a_folder_without_manifest_is_not_a_dataset(dataset):
    (dataset / "manifest.json").unlink()
    with pytest.raises(InputError, match="not a finished dataset"):
        store.open_dataset(dataset)


def test_an_unreadable_manifest_is_listed_with_its_problem_and_not_passed_over(dataset):
    root = dataset.parents[1]
    (dataset / "manifest.json").write_text("{")
    assert "not a dataset's manifest" in store.list_datasets(root)[0].problem
    with pytest.raises(InputError, match="not a dataset's manifest"):
        store.resolve(None, root)


def test_a_version_that_is_there_but_damaged_is_not_taken_for_the_new_one(dataset, tiny_dataset):
    flip(dataset / "split/c/0", 10)
    with pytest.raises(InputError, match=r"exists, but is damaged .*split/c/0"):
        tiny_dataset(dataset.parents[1])
