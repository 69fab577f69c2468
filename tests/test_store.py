import multiprocessing
import os
import pickle
import subprocess
import sys
import tracemalloc
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpcurate import store
from dpcurate.errors import InputError
from dpcurate.schema import LABELS
from tests.conftest import noise
from tests.small_disk import small_disk

TESTS = Path(__file__).parent


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
    after = (original / "manifest.json").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)  # the time of reading may differ
    assert [path.name for path in original.parents[1].iterdir()] == ["tiny"]


@pytest.mark.parametrize("failure", [KeyboardInterrupt, RuntimeError])
def test_what_breaks_off_is_no_dataset_and_the_same_call_completes_it(write, tmp_path, failure):
    def blocks():
        yield noise(1500)
        raise failure

    with pytest.raises(failure):
        write(tmp_path, noise(2000), blocks=blocks())
    (left,) = tmp_path.iterdir()
    assert left.suffix == ".partial"
    assert store.list_datasets(tmp_path) == []
    made = write(tmp_path, noise(2000))
    assert not left.exists()
    assert store.verify(made) == []


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
from tests.small_disk import small_disk

root, limit = Path(sys.argv[1]), int(sys.argv[2])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
n, shape = 2048, (32, 32)
blocks = (np.random.default_rng(i).integers(0, 60000, (256, *shape)).astype(np.uint16) for i in range(8))
labels = tiny_labels(np.tile([1.0, 0, 0, 0], (n, 1)), np.zeros(n), grain=np.arange(n), shape=shape, seed=0)
try:
    write_dataset(root, name="big", patterns=blocks, dtype=np.dtype("uint16"), pattern_shape=shape, labels=labels,
                  description=describe(), documents=lambda made: {"card.md": ""})
except InputError as error:
    print(error, [path.name for path in root.iterdir()])
"""


def write_too_much(root, limit):
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    command = [sys.executable, "-c", WRITE_TOO_MUCH, str(root), str(limit)]
    return subprocess.run(command, env=environment, capture_output=True, check=True, text=True).stdout.strip()


def test_a_limit_of_file_size_is_one_sentence_and_leaves_nothing(tmp_path):
    said = write_too_much(tmp_path, 1_000_000)
    assert "big could not be written (limit of file size reached): it needs up to 5.1 MB" in said
    assert said.endswith("--root. []")


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path):
    with small_disk(tmp_path, size="3m"):
        said = write_too_much(tmp_path, 0)
    assert "(no space left): it needs up to 5.1 MB and" in said
    assert said.endswith("--root. []")


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


def in_a_worker(method, read, *arguments):
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(method)) as pool:
        return pool.submit(read, *arguments).result(timeout=120)


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_dataset_in_use_is_read_by_workers_too(original, method):
    dataset, rows = store.open_dataset(original), np.array([59, 0, 7])
    here = dataset.patterns(rows)
    np.testing.assert_array_equal(in_a_worker(method, dataset.patterns, rows), here)


@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_a_worker_that_was_forked_after_reading_says_how_to_start_it(original):
    dataset = store.open_dataset(original)
    dataset.patterns(np.array([0]))
    with pytest.raises(InputError, match="forked.*start workers with 'spawn' or 'forkserver'"):
        in_a_worker("fork", dataset.patterns, np.array([1]))
