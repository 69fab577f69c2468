"""The workers of a real dask cluster: the same results, also when one is killed; what is said when they cannot work."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import dask
import hyperspy.api as hs
import numpy as np
import pytest
from distributed import Client, LocalCluster

from dpcurate import workers
from dpcurate.band_map import collect, map_bands
from dpcurate.bands import cut_bands
from dpcurate.cli import main
from dpcurate.errors import InputError
from dpcurate.pipeline import HERE, band_matcher, read_phases
from dpcurate.recipe import ScanRecipe, load_recipe
from dpcurate.scans import open_scan
from dpcurate.workers import Workers

ROOT = Path(__file__).parents[1]
PHASE = ROOT / "datasets" / "phases" / "LiNiO2.cif"
GIVEN = ScanRecipe(scale_inv_angstrom=0.02, beam_energy_kev=200, center_xy=(7.5, 7.5))
WHOLE = slice(0, 12), slice(0, 9)

pytestmark = [
    pytest.mark.filterwarnings("ignore:Sending large graph:UserWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def cluster():
    """Two worker processes of one thread."""
    with LocalCluster(dashboard_address=":0", n_workers=2, threads_per_worker=1) as started:
        yield started


@pytest.fixture
def numbers(tmp_path):
    """A scan of 12 x 9 patterns in chunks of a row."""
    patterns = np.random.default_rng(0).integers(0, 9, (12, 9, 16, 16), np.uint16)
    hs.signals.Signal2D(patterns).save(tmp_path / "scan.hspy", chunks=(1, 9, 16, 16))
    return tmp_path / "scan.hspy", patterns.sum(axis=(2, 3), dtype=np.int64)


def slow_sums(scan, *, folder, seconds=0.2):
    """Work that notes in ``folder`` who was made ready, and takes its time."""
    (folder / f"{os.getpid()}-{time.time_ns()}").touch()

    def work(band, **maps):
        time.sleep(seconds)
        found = {"sum": scan.patterns[band].compute().sum(axis=(2, 3), dtype=np.int64)}
        return found | {name: part + 1 for name, part in maps.items()}

    return work


def broken(scan):
    """Work that ends the process that does it."""
    os.kill(os.getpid(), signal.SIGKILL)
    return scan


def run(path, address, make, **options):
    scan = open_scan(path, GIVEN)
    options["workers"] = Workers(scheduler=address)
    bands = cut_bands(scan, most_patterns=9)
    return map_bands(scan, make, bands=bands, key=os.urandom(8).hex(), desc="test", **options)


def kill_a_worker(cluster):
    """End, at once, a worker process that has done a band."""
    with Client(cluster, set_as_default=False) as client:
        pids = [pid for pid, busy in client.run(pid_and_whether_busy).values() if busy]
    os.kill(pids[0], signal.SIGKILL)


def pid_and_whether_busy():
    return os.getpid(), bool(workers._made)


def test_a_killed_worker_loses_nothing_and_changes_nothing(cluster, numbers, tmp_path):
    path, expected = numbers
    made, keep = tmp_path / "made", tmp_path / "kept"
    made.mkdir()
    maps = {"grain": np.arange(108).reshape(12, 9)}
    results = run(path, cluster.scheduler_address, partial(slow_sums, folder=made), keep=keep, maps=maps)
    first = [next(results)]
    kill_a_worker(cluster)
    found = collect([*first, *results], WHOLE)
    np.testing.assert_array_equal(found["sum"], expected)
    np.testing.assert_array_equal(found["grain"], maps["grain"] + 1)
    assert len(list(keep.iterdir())) == 12
    pids = [file.name.split("-")[0] for file in made.iterdir()]
    assert len(set(pids)) == len(pids) > 1, "each worker makes ready once"


def test_indexing_on_a_cluster_gives_the_same_numbers_bit_by_bit(cluster, tmp_path):
    demo = hs.load(ROOT / "tests" / "data" / "demo.hspy").inav[:6, :8]
    demo.save(tmp_path / "cut.hspy", chunks=(2, 6, 128, 128))
    recipe = load_recipe(phases=[str(PHASE)], matching__engine="fast", library__spacing_deg=10)
    scan = open_scan(tmp_path / "cut.hspy", recipe.scan)
    make = partial(band_matcher, phases=read_phases(recipe.phases), recipe=recipe, k_max=1.2)
    bands = cut_bands(scan, most_patterns=12)
    found = {}
    for name, who in {"here": HERE, "there": Workers(scheduler=cluster.scheduler_address)}.items():
        results = map_bands(scan, make, bands=bands, key="index", desc=name, workers=who)
        first = [next(results)]
        if name == "there":
            kill_a_worker(cluster)
        found[name] = collect([*first, *results], (slice(0, 8), slice(0, 6)))
    assert found["here"].keys() == found["there"].keys()
    for name, here in found["here"].items():
        np.testing.assert_array_equal(here, found["there"][name], err_msg=name)


def test_a_run_on_a_cluster_that_is_left_goes_on_here(cluster, numbers, tmp_path):
    path, expected = numbers
    (tmp_path / "made").mkdir()
    keep, make = tmp_path / "kept", partial(slow_sums, folder=tmp_path / "made")
    left = run(path, cluster.scheduler_address, make, keep=keep)
    for _ in range(3):
        next(left)
    left.close()
    before = {file: file.stat().st_mtime_ns for file in keep.iterdir()}
    assert 3 <= len(before) < 12
    found = collect(run(path, None, make, keep=keep), WHOLE)
    np.testing.assert_array_equal(found["sum"], expected)
    assert {file: file.stat().st_mtime_ns for file in before} == before


def test_a_scheduler_s_file_serves_as_its_address(cluster, numbers, tmp_path):
    file = tmp_path / "scheduler.json"
    file.write_text(json.dumps({"address": cluster.scheduler_address}))
    make = partial(slow_sums, folder=tmp_path, seconds=0)
    assert (collect(run(numbers[0], str(file), make), WHOLE)["sum"] == numbers[1]).all()


def test_work_that_kills_its_workers_is_one_sentence(numbers):
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        LocalCluster(dashboard_address=":0", n_workers=1, threads_per_worker=1) as fragile,
        pytest.raises(InputError, match=r"workers died over one band, mostly for lack of memory.*kept"),
    ):
        list(run(numbers[0], fragile.scheduler_address, broken))


def test_a_scan_that_the_workers_do_not_see_is_one_sentence(numbers):
    """A worker with a disk of its own mounted where the scan lies."""
    path, _ = numbers
    mounted = f"mount -t tmpfs none {path.parent}"
    if (
        os.geteuid()
        or subprocess.run(["unshare", "-m", "sh", "-c", mounted], capture_output=True, check=False).returncode
    ):
        pytest.skip("mounting in a place of its own is not allowed here")
    with LocalCluster(dashboard_address=":0", n_workers=0) as empty:
        start = (
            f"{mounted} && exec {sys.executable} -m distributed.cli.dask_worker {empty.scheduler_address} --no-nanny"
        )
        worker = subprocess.Popen(["unshare", "-m", "sh", "-c", start], cwd=ROOT, stderr=subprocess.DEVNULL)
        try:
            with pytest.raises(InputError, match=r"scan.hspy: not seen on .*every worker sees it"):
                list(run(path, empty.scheduler_address, partial(slow_sums, folder=path.parent)))
        finally:
            worker.kill()
            worker.wait()


def test_a_scheduler_that_stops_is_one_sentence(numbers, tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "CONNECT_SECONDS", 3)  # as long does the client try to find it again
    with LocalCluster(dashboard_address=":0", n_workers=1, threads_per_worker=1) as started:
        results = run(numbers[0], started.scheduler_address, partial(slow_sums, folder=tmp_path))
        next(results)
        started.close()
        with pytest.raises(InputError, match=r"--scheduler tcp.*: lost \(.*what is done is kept"):
            list(results)


def test_a_signal_in_memory_is_not_sent_to_a_cluster(cluster):
    scan = open_scan(hs.signals.Signal2D(np.ones((2, 2, 16, 16))), GIVEN)
    who = Workers(scheduler=cluster.scheduler_address)
    with pytest.raises(InputError, match="a signal in memory is not seen.*Save it"):
        list(map_bands(scan, broken, bands=cut_bands(scan), key="k", desc="test", workers=who))


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("tcp://127.0.0.1:9", "no scheduler answers there"),
        ("nowhere.json", "no scheduler answers there"),
        ("magic://host:1", "no scheduler answers there"),
        ("{folder}/broken.json", "not a scheduler's file"),
    ],
)
def test_without_a_scheduler_the_command_says_so_soon(tmp_path, monkeypatch, capsys, address, says):
    monkeypatch.setattr(workers, "CONNECT_SECONDS", 1)
    (tmp_path / "broken.json").write_text('{"address"')
    given = ["--phase", str(PHASE), "--out", str(tmp_path / "x.index"), "--scheduler", address.format(folder=tmp_path)]
    start = time.monotonic()
    with pytest.raises(SystemExit) as end:
        main(["index", str(ROOT / "tests" / "data" / "demo.hspy"), *given])
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert says in error
    assert "Traceback" not in error
    assert time.monotonic() - start < 20
    assert [file.name for file in tmp_path.iterdir()] == ["broken.json"]
