"""Direct beams that wander are found out and brought to one place; steady, hidden or lost ones stay as they are."""

import dask.array as da
import hyperspy.api as hs
import numpy as np
import pytest

from dpcurate.direct_beams import beam_places
from dpcurate.scan_sample import sample_scan
from dpcurate.scans import Scan, ScanFile, open_scan, stamp_of
from dpcurate.wandering import steadied

SIZE, MIDDLE, BEAM_SIGMA = 64, (31.0, 32.5), 1.5
SPOT = np.array([11.3, -7.6])
"""Of the only spot, from the direct beam, pixels."""


def patterns_around(centers, *, electrons=2000.0, seed=0):
    """Counts of a beam and one spot around each centre (rows, columns, 2), with Poisson noise."""
    row, column = np.indices((SIZE, SIZE))
    expected = np.zeros((*centers.shape[:2], SIZE, SIZE))
    for place, share in ((centers, 1.0), (centers + SPOT, 0.4)):
        away = (column - place[..., 0, None, None]) ** 2 + (row - place[..., 1, None, None]) ** 2
        expected += share * electrons * np.exp(-away / (2 * BEAM_SIGMA**2)) / (2 * np.pi * BEAM_SIGMA**2)
    return np.random.default_rng(seed).poisson(expected).astype(np.uint16)


def scan_of(patterns):
    calibration = open_scan("tests/data/demo.hspy").calibration.model_copy(update={"center_xy": MIDDLE})
    return Scan(path=None, patterns=da.from_array(patterns, chunks=(4, 4, SIZE, SIZE)), calibration=calibration)


@pytest.fixture(scope="module")
def wandering():
    return MIDDLE + np.random.default_rng(5).normal(0, 0.8, (12, 12, 2))


def test_wandering_beams_are_brought_to_one_place(wandering):
    scan = scan_of(patterns_around(wandering))
    found, report = steadied(scan, sample_scan(scan))
    assert report["applied"]
    assert report["wander_px"] == pytest.approx(0.8, rel=0.25)
    moved = np.asarray(found.patterns.compute())
    assert moved.shape == scan.patterns.shape
    assert moved.dtype == found.patterns.dtype == np.float32
    place, _ = beam_places(moved.reshape(-1, SIZE, SIZE), found.calibration.steadied_xy)
    assert np.abs(place - found.calibration.steadied_xy).max() < 0.25
    mean = moved.mean(axis=(0, 1))
    row, column = np.indices(mean.shape)
    spot = np.add(found.calibration.steadied_xy, SPOT)
    near = np.hypot(column - spot[0], row - spot[1]) < 5
    there = [(mean * axis)[near].sum() / mean[near].sum() for axis in (column, row)]
    np.testing.assert_allclose(there, spot, atol=0.1)


def test_part_of_a_moved_scan_is_the_part_of_all_of_it(wandering):
    scan = scan_of(patterns_around(wandering))
    found, _ = steadied(scan, sample_scan(scan))
    np.testing.assert_array_equal(found.patterns[3:5, 7].compute(), found.patterns.compute()[3:5, 7])


def test_a_steady_beam_stays(wandering):
    scan = scan_of(patterns_around(np.full_like(wandering, MIDDLE)))
    found, report = steadied(scan, sample_scan(scan))
    assert found is scan
    assert not report["applied"]
    assert report["wander_px"] < 0.15


def test_behind_a_beam_stop_nothing_is_moved(wandering):
    patterns = patterns_around(wandering)
    row, column = np.indices((SIZE, SIZE))
    patterns[..., np.hypot(column - MIDDLE[0], row - MIDDLE[1]) < 7] = 0
    scan = scan_of(patterns)
    found, report = steadied(scan, sample_scan(scan))
    assert found is scan
    assert report["said"].startswith("patterns are not moved: the direct beam is not seen")


def test_a_worker_that_opens_the_file_moves_the_patterns_too(wandering, tmp_path):
    path = tmp_path / "wandering.hspy"
    signal = hs.signals.Signal2D(patterns_around(wandering))
    signal.save(path)
    scan = scan_of(signal.data)
    found, _ = steadied(scan, sample_scan(scan))
    stated = {"flip": False}
    there = ScanFile(path, found.calibration.model_copy(update=stated), stamp_of(path), found.mended).open()
    np.testing.assert_array_equal(there.patterns.compute(), found.patterns.compute())


def test_hot_pixels_do_not_wander_with_the_beam(wandering):
    patterns = patterns_around(wandering)
    clean = np.asarray(steadied(scan_of(patterns), sample_scan(scan_of(patterns)))[0].patterns.compute())
    hot = patterns.copy()
    hot[..., 12, 50], hot[..., 40, 9] = 300, 700
    scan = scan_of(hot)
    found, report = steadied(scan, sample_scan(scan))
    assert report["applied"]
    assert {12 * SIZE + 50, 40 * SIZE + 9} <= set(found.mended)
    moved = np.asarray(found.patterns.compute())
    assert moved[..., 9:16, 47:54].max() < 20
    assert moved[..., 37:44, 6:13].max() < 20
    np.testing.assert_allclose(moved.mean(axis=(0, 1)), clean.mean(axis=(0, 1)), atol=1)
