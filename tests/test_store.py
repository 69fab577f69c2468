import json
import os
import pickle
import shutil
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpcurate import store
from dpcurate.errors import InputError
from dpcurate.schema import LABELS

TESTS = Path(__file__).parent


@pytest.fixture(scope="module")
def write(tiny_dataset):
    """Write given patterns; labels and description are those of the tiny dataset."""
    conftest = sys.modules[tiny_dataset.__module__]

    def write_patterns(root, patterns, *, name="made", blocks=None, **changed):
        n, *shape = patterns.shape
        unit = np.tile([1.0, 0, 0, 0], (n, 1))
        labels = conftest.tiny_labels(unit, np.zeros(n), grain=np.arange(n), shape=tuple(shape), seed=0)
        return store.write_dataset(
            root,
            name=name,
            patterns=[patterns] if blocks is None else blocks,
            dtype=patterns.dtype,
            pattern_shape=tuple(shape),
            labels=labels | changed,
            description=conftest.describe(),
            card=lambda manifest: manifest.name,
        )

    return write_patterns


@pytest.fixture(scope="module")
def original(tiny_dataset, tmp_path_factory):
    return tiny_dataset(tmp_path_factory.mktemp("original"))


@pytest.fixture
def dataset(original, tmp_path):
    """A copy of the tiny dataset that a test may damage."""
    return Path(shutil.copytree(original, tmp_path / "tiny" / original.name))


def noise(n, shape=(4, 5), dtype="uint16", seed=0):
    return np.random.default_rng(seed).integers(0, 200, (n, *shape)).astype(dtype)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "float32"])
def test_what_was_written_is_read_back_across_shards(write, tmp_path, dtype):
    patterns = noise(1030, dtype=dtype)
    confidence = np.linspace(0, 1, 1030, dtype=np.float32)
    dataset = store.open_dataset(write(tmp_path, patterns, confidence=confidence))
    asked = np.array([1029, 0, 1023, 1024, 1023])
    assert dataset.n == 1030
    assert dataset.patterns(asked).dtype == dtype
    assert np.array_equal(dataset.patterns(asked), patterns[asked])
    assert np.array_equal(dataset.read("patterns"), patterns)
    assert np.array_equal(dataset.read("confidence"), confidence)


def test_every_label_comes_back_with_the_dtype_and_shape_of_the_format(original):
    dataset = store.open_dataset(original)
    for name, label in LABELS.items():
        values = dataset.read(name)
        assert (values.dtype, values.shape) == (np.dtype(label.dtype), label.shape(60))
    assert np.abs(np.linalg.norm(dataset.read("orientation"), axis=1) - 1).max() < 1e-12


@settings(max_examples=10, deadline=None)
@given(cuts=st.lists(st.integers(0, 1100), max_size=6))
def test_how_the_patterns_are_cut_into_blocks_does_not_change_the_version(write, tmp_path_factory, cuts):
    patterns = noise(1100)
    root = tmp_path_factory.mktemp("blocks")
    assert write(root, patterns, blocks=np.split(patterns, sorted(cuts))) == write(root, patterns)


def test_memory_stays_at_a_few_shards_however_many_patterns_come(write, tmp_path):
    patterns, shard = noise(1, (64, 64)), 1024 * 64 * 64 * 2
    blocks = (np.repeat(patterns, 128, axis=0) for _ in range(80))
    tracemalloc.start()
    write(tmp_path, np.broadcast_to(patterns, (80 * 128, 64, 64)), blocks=blocks)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3.5 * shard


def test_two_processes_give_the_same_version(original, tmp_path):
    code = "import sys; from conftest import write_tiny_dataset; print(write_tiny_dataset(sys.argv[1]))"
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(TESTS)}, capture_output=True, check=True)
    assert Path(done.stdout.decode().strip()).name == original.name


def test_a_pattern_or_a_label_or_a_phase_changes_the_version_and_the_name_does_not(write, tiny_dataset, tmp_path):
    patterns = noise(10)
    changed = patterns.copy()
    changed[3, 1, 1] += 1
    version = write(tmp_path, patterns).name
    assert write(tmp_path, patterns, name="other").name == version
    assert write(tmp_path, changed).name != version
    assert write(tmp_path, patterns, confidence=np.full(10, 0.5)).name != version
    conftest = sys.modules[tiny_dataset.__module__]
    renamed = (conftest.CUBIC.model_copy(update={"name": "nickel"}), conftest.TRIGONAL)
    assert tiny_dataset(tmp_path).name != tiny_dataset(tmp_path, phases=renamed).name


def test_a_version_that_is_there_is_kept(original, tiny_dataset):
    before = (original / "manifest.json").stat()
    assert tiny_dataset(original.parents[1]) == original
    assert (original / "manifest.json").stat() == before
    assert [path.name for path in original.parents[1].iterdir()] == ["tiny"]


def test_a_version_that_is_there_but_damaged_is_not_taken_for_the_new_one(dataset, tiny_dataset):
    flip(dataset / "split/c/0", 10)
    with pytest.raises(InputError, match=r"exists, but is damaged .*split/c/0"):
        tiny_dataset(dataset.parents[1])


@pytest.mark.parametrize("failure", [KeyboardInterrupt, RuntimeError])
def test_nothing_stays_behind_when_the_patterns_break_off(write, tmp_path, failure):
    def blocks():
        yield noise(1500)
        raise failure

    with pytest.raises(failure):
        write(tmp_path, noise(2000), blocks=blocks())
    assert list(tmp_path.iterdir()) == []


def test_more_or_fewer_patterns_than_labels_are_refused(write, tmp_path):
    for n in (9, 11):
        with pytest.raises(InputError, match=f"{n}.* 10"):
            write(tmp_path, noise(10), blocks=[noise(n)])
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_leaves_the_root_is_refused(write, tmp_path):
    with pytest.raises(InputError, match="cannot name a dataset"):
        write(tmp_path, noise(10), name="../out")


def test_a_root_that_is_a_file_is_an_input_error(write, tmp_path):
    (tmp_path / "root").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write(tmp_path / "root", noise(10))


WRITE_TOO_MUCH = """
import resource, sys
from pathlib import Path
import numpy as np
from conftest import tiny_labels, describe
from dpcurate.errors import InputError
from dpcurate.store import write_dataset

root, limit = Path(sys.argv[1]), int(sys.argv[2])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
n, shape = 2048, (32, 32)
blocks = (np.random.default_rng(i).integers(0, 60000, (256, *shape)).astype(np.uint16) for i in range(8))
labels = tiny_labels(np.tile([1.0, 0, 0, 0], (n, 1)), np.zeros(n), grain=np.arange(n), shape=shape, seed=0)
try:
    write_dataset(root, name="big", patterns=blocks, dtype=np.dtype("uint16"), pattern_shape=shape, labels=labels,
                  description=describe(), card=lambda manifest: "")
except InputError as error:
    print(error, [path.name for path in root.iterdir()])
"""


def write_too_much(root, limit):
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    command = [sys.executable, "-c", WRITE_TOO_MUCH, str(root), str(limit)]
    return subprocess.run(command, env=environment, capture_output=True, check=True, text=True).stdout.strip()


def test_a_limit_of_file_size_is_one_sentence_and_leaves_nothing(tmp_path):
    said = write_too_much(tmp_path, 1_000_000)
    assert "big could not be written (limit of file size reached): it needs up to 4.6 MB" in said
    assert said.endswith("--root. []")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path):
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        said = write_too_much(tmp_path, 0)
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
    assert "(no space left): it needs up to 4.6 MB and" in said
    assert said.endswith("--root. []")


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
    assert store.verify(copy) == [f"{shard}: damaged, its content is not what was written."]


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


def test_verify_names_what_is_damaged_missing_and_extra(dataset):
    assert store.verify(dataset) == []
    flip(dataset / "scale/c/0", 3)
    (dataset / "split/c/0").unlink()
    (dataset / "patterns/note.txt").write_text("mine")
    assert [problem.removeprefix(f"{dataset}/") for problem in store.verify(dataset)] == [
        "scale/c/0: damaged, its content is not what was written.",
        "split/c/0: missing.",
        "patterns/note.txt: extra, not a file of this dataset.",
    ]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text[:200], "not a dataset's manifest"),
        (lambda text: f"[{text}]", "not a dataset's manifest"),
        (lambda text: json.dumps(json.loads(text) | {"format_version": 2}), "format version 2, .* update dpcurate"),
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


def test_a_dataset_can_be_sent_to_a_worker_after_it_was_read(original):
    dataset = store.open_dataset(original)
    first = dataset.patterns(np.array([3]))
    assert np.array_equal(pickle.loads(pickle.dumps(dataset)).patterns(np.array([3])), first)


def test_an_index_outside_the_dataset_is_refused(original):
    for index in (-1, 60):
        with pytest.raises(IndexError, match="from 0 to 59"):
            store.open_dataset(original).patterns(np.array([index]))


def test_a_reference_is_a_name_a_version_a_folder_or_the_newest(write, tmp_path, monkeypatch):
    first = write(tmp_path, noise(5, seed=1), name="a")
    second = write(tmp_path, noise(5, seed=2), name="a")
    third = write(tmp_path, noise(5, seed=3), name="b")
    monkeypatch.setenv("DPCURATE_DATASETS", str(tmp_path))
    assert store.resolve(None) == third
    assert store.resolve("a") == second
    assert store.resolve(f"a@{first.name}") == first
    assert store.resolve(str(first), tmp_path / "elsewhere") == first
    assert [entry.path for entry in store.list_datasets(tmp_path)] == [first, second, third]


def test_what_cannot_be_resolved_says_what_is_there(original, tmp_path):
    with pytest.raises(InputError, match=f"no dataset other; there: tiny@{original.name}"):
        store.resolve("other", original.parents[1])
    with pytest.raises(InputError, match=r"no dataset at all; there: none.*build-dataset"):
        store.resolve(None, tmp_path)


def test_an_unreadable_manifest_is_listed_with_its_problem_and_not_passed_over(dataset):
    root = dataset.parents[1]
    (dataset / "manifest.json").write_text("{")
    assert "not a dataset's manifest" in store.list_datasets(root)[0].problem
    with pytest.raises(InputError, match="not a dataset's manifest"):
        store.resolve(None, root)
