"""Writing: one writer of a name, shards filled by several processes, a kill at any moment, what is kept of it."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from dpcurate import store, writing
from dpcurate.errors import InputError
from tests.conftest import describe, noise, tiny_labels

SHAPE, N, PER_SHARD = (6, 5), 500, 64


@dataclass(frozen=True)
class Source:
    """Patterns that follow from their numbers; says on the disk which were asked for, and may be slow."""

    seen: str = ""
    seconds: float = 0.0

    def __call__(self, start, stop):
        if self.seen:
            Path(self.seen, f"{start}").touch()
        time.sleep(self.seconds)
        return np.stack([noise(1, SHAPE, seed=number)[0] for number in range(start, stop)])


def write(root, source, **options):
    labels = tiny_labels(np.tile([1.0, 0, 0, 0], (N, 1)), np.zeros(N), grain=np.arange(N), shape=SHAPE, seed=0)
    return store.write_dataset(
        root,
        name="made",
        patterns=source,
        dtype=np.dtype("uint16"),
        pattern_shape=SHAPE,
        labels=labels,
        description=describe(),
        documents=lambda made: {"card.md": made.manifest.name},
        patterns_per_shard=PER_SHARD,
        **options,
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return write(tmp_path_factory.mktemp("whole"), Source())


def test_shards_hold_as_many_patterns_as_asked(whole):
    files = [file for file in (whole / "patterns").rglob("*") if file.is_file() and file.name != "zarr.json"]
    assert len(files) == -(-N // PER_SHARD)
    made = store.open_dataset(whole)
    np.testing.assert_array_equal(made.patterns(np.arange(N)), Source()(0, N))


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_several_processes_write_the_same_dataset(whole, tmp_path, method):
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        made = write(tmp_path, Source(), executor=pool)
    assert made.name == whole.name
    assert store.verify(made) == []


PROGRAM = """
import sys
from pathlib import Path
from tests.test_writing import Source, write
if __name__ == "__main__":
    write(Path(sys.argv[1]), Source(sys.argv[2], float(sys.argv[3])))
"""


def begin(root, seen, seconds):
    seen.mkdir()
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    command = [sys.executable, "-c", PROGRAM, str(root), str(seen), str(seconds)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def wait_for(seen, number, process):
    limit = time.monotonic() + 60
    while len(list(seen.iterdir())) < number and process.poll() is None and time.monotonic() < limit:
        time.sleep(0.01)
    assert len(list(seen.iterdir())) >= number, process.communicate()


def test_a_killed_writer_leaves_no_dataset_and_the_same_call_writes_the_rest_only(whole, tmp_path):
    root, first, second = tmp_path / "root", tmp_path / "first", tmp_path / "second"
    process = begin(root, first, 0.1)
    wait_for(first, 4, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert store.list_datasets(root) == []
    second.mkdir()
    made = write(root, Source(str(second)))
    assert made.name == whole.name
    assert store.verify(made) == []
    asked = {int(file.name) for file in second.iterdir()}
    assert not asked & {0, PER_SHARD, 2 * PER_SHARD}
    assert [path.name for path in root.iterdir()] == ["made"]


def test_of_two_writers_of_a_name_one_wins_and_the_other_is_told(whole, tmp_path):
    root, seen = tmp_path / "root", tmp_path / "seen"
    process = begin(root, seen, 0.2)
    wait_for(seen, 1, process)
    with pytest.raises(InputError, match="another process is writing dataset made"):
        write(root, Source())
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert [entry.manifest.version for entry in store.list_datasets(root)] == [whole.name]


def test_a_damaged_shard_of_an_interrupted_call_is_written_again(whole, tmp_path):
    def breaks(start, stop):
        if start >= 3 * PER_SHARD:
            raise KeyboardInterrupt
        return Source()(start, stop)

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, breaks)
    (left,) = tmp_path.glob(".*.partial")
    shard = next(file for file in (left / "patterns" / "c" / "1").rglob("*") if file.is_file())
    content = bytearray(shard.read_bytes())
    content[10] ^= 0xFF
    shard.write_bytes(content)
    made = write(tmp_path, Source())
    assert made.name == whole.name
    assert store.verify(made) == []


def test_blocks_are_cut_anew_without_losing_a_row():
    given = [noise(n, seed=n) for n in (3, 0, 8, 1, 5)]
    found = list(writing.regroup(given, 4))
    assert [len(block) for block in found] == [4, 4, 4, 4, 1]
    np.testing.assert_array_equal(np.concatenate(found), np.concatenate(given))


@pytest.mark.parametrize("number", [0, -1, 2**20 + 1])
def test_a_shard_of_no_or_too_many_patterns_is_refused(tmp_path, number, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "PER_SHARD", number)
    with pytest.raises(InputError, match=f"--patterns-per-shard {number}: must be from 1 to 1048576"):
        write(tmp_path, Source())
