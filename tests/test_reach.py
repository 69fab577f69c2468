"""Matching reaches as far as spots do: not beyond an aperture, into corners that are full, and as told if told."""

from dataclasses import replace

import dask.array as da
import numpy as np
import pytest

from dpcurate.preprocess import DEFAULT_K_MAX, k_max_of
from dpcurate.reach import with_reach
from dpcurate.recipe import load_recipe
from dpcurate.scans import Scan, open_scan

RECIPE = load_recipe()


@pytest.fixture(scope="module")
def demo():
    whole = open_scan("tests/data/demo.hspy")
    return Scan(path=None, patterns=whole.patterns[::3, ::3].rechunk().persist(), calibration=whole.calibration)


def circle_of(scan):
    c = scan.calibration
    return k_max_of(scan.patterns.shape[2:], c.center_xy, c.scale_inv_angstrom, RECIPE.preprocess)


def with_spots_up_to(scan, k_inv_angstrom):
    """Nothing is left beyond a radius, as behind an aperture; on it spots are added."""
    c, (height, width) = scan.calibration, scan.patterns.shape[2:]
    row, column = np.indices((height, width))
    away = np.hypot(column - c.center_xy[0], row - c.center_xy[1]) * c.scale_inv_angstrom
    patterns = np.where(away > k_inv_angstrom, 0, np.asarray(scan.patterns))
    angle = np.deg2rad(45)
    x, y = (
        c.center_xy[k] + part * k_inv_angstrom / c.scale_inv_angstrom
        for k, part in enumerate((np.cos(angle), np.sin(angle)))
    )
    patterns = patterns + np.round(200 * np.exp(-((column - x) ** 2 + (row - y) ** 2) / 2)).astype(patterns.dtype)
    return replace(scan, patterns=da.from_array(patterns))


def test_spots_in_the_corners_are_matched(demo):
    edge = 1.2 * circle_of(demo)
    found = with_reach(with_spots_up_to(demo, edge), RECIPE).preprocess.k_max_inv_angstrom
    assert found == pytest.approx(min(edge, DEFAULT_K_MAX), abs=0.02)


def test_behind_an_aperture_the_circle_stays(demo):
    found = with_reach(with_spots_up_to(demo, 0.8 * circle_of(demo)), RECIPE).preprocess.k_max_inv_angstrom
    assert found == pytest.approx(circle_of(demo), abs=1e-4)


def test_a_radius_that_is_told_is_taken_and_pyxems_score_keeps_to_the_circle(demo):
    told = load_recipe(preprocess__k_max_inv_angstrom=0.9)
    assert with_reach(demo, told) is told
    pyxem = load_recipe(matching__score="pyxem")
    assert with_reach(demo, pyxem) is pyxem
