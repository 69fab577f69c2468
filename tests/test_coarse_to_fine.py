"""The fast engine's short cuts lose next to nothing, and pyxem's scores come out of it when they are asked for."""

import dask.array as da
import numpy as np
import pytest
import torch

from dpcurate import engine as fast
from dpcurate.correlate import Frame, in_basis, radial_basis, ring_weight, template_harmonics
from dpcurate.engine import match_patterns
from dpcurate.equivalent import pyxem_rows
from dpcurate.matching import PolarTemplates, by_pyxem
from dpcurate.orientations import disorientation_deg
from dpcurate.pipeline import match_scan
from dpcurate.recipe import ScanRecipe, load_recipe
from dpcurate.refine import OFFSETS
from dpcurate.scans import Scan, open_scan
from tests.crystals import LINIO2, NICKEL
from tests.test_engine import engine_of, patterns_of


@pytest.fixture(scope="module")
def demo():
    """Every eighth pixel of the shipped scan along both axes."""
    whole = open_scan("tests/data/demo.hspy", ScanRecipe(center_xy=(64.3, 63.6)))
    return Scan(path=None, patterns=whole.patterns[::8, ::8].rechunk(), calibration=whole.calibration)


def test_climbing_from_every_template_finds_no_other_winner(monkeypatch):
    counts, _ = patterns_of(NICKEL, n=16)
    engine = engine_of(NICKEL, spacing_deg=2.0)
    short = match_patterns(engine, counts)
    every = 2 * len(engine.rotation)
    monkeypatch.setattr(fast, "CANDIDATES", every)
    monkeypatch.setattr(fast, "CLIMBS", ((every, OFFSETS, 2), (every // 4, OFFSETS, 1), (every // 4, OFFSETS, 1)))
    monkeypatch.setattr(fast, "BATCH", {"cpu": 4})
    full = match_patterns(engine, counts)
    apart = disorientation_deg(short.orientation, full.orientation[:, :1], NICKEL.proper_rotations())
    assert (apart[:, 0] < 1).mean() > 0.9
    assert (apart.min(axis=1) < 1).mean() > 0.95


def test_templates_in_few_radial_functions_keep_their_correlations():
    rng = np.random.default_rng(0)
    k = torch.linspace(0.15, 1.2, 48, dtype=torch.float64)
    frame = Frame(k, ring_weight(k, power=0.5), 0.025, 16)
    radius = rng.choice([0.3, 0.55, 0.7, 0.95], (40, 12))
    angle = rng.uniform(0, 2 * np.pi, radius.shape)
    q = torch.from_numpy(np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1))
    templates = template_harmonics(q, torch.ones(radius.shape, dtype=torch.float64), frame)
    basis = radial_basis(templates, lost=1e-4)
    assert len(basis) <= 6, "four radii, the mean that is taken off, and a spare"
    assert basis @ basis.T == pytest.approx(np.eye(len(basis)), abs=1e-5)
    few = in_basis(templates, basis)
    whole, short = (torch.einsum("mrn,mrk->nk", t, t) for t in (templates, few))
    assert (whole - short).abs().max() < 1e-3
    assert len(radial_basis(templates, lost=0.2)) < len(basis)


@pytest.mark.parametrize("seed", range(2))
def test_our_products_give_pyxems_scores_angles_and_mirrors(seed):
    rng = np.random.default_rng(seed)
    n, spots, n_radius, n_azimuth = 150, 9, 20, 72
    radius, azimuth = rng.integers(1, n_radius, (n, spots)), rng.integers(0, n_azimuth, (n, spots))
    templates = PolarTemplates(radius, azimuth, rng.uniform(0.1, 1, (n, spots)))
    import hyperspy.api as hs

    data = rng.normal(size=(1, 3, n_radius, n_azimuth)).astype(np.float32)
    signal = hs.signals.Signal2D(da.from_array(data)).as_lazy()
    signal.set_signal_type("polar_diffraction")
    axis = signal.axes_manager.signal_axes[0]
    axis.offset, axis.scale = -np.pi, 2 * np.pi / n_azimuth
    theirs = by_pyxem(signal, templates).compute()
    theirs = np.take_along_axis(theirs, np.argsort(theirs[..., :1], axis=2), axis=2)
    ours = pyxem_rows(data, templates)
    assert ours == pytest.approx(theirs, abs=1e-4)


def test_with_pyxems_scores_the_fast_engine_gives_the_pyxem_engines_map(demo):
    coarse = {"library__spacing_deg": 6.0, "preprocess__n_radius": 60, "preprocess__n_azimuth": 180}
    pyxem = match_scan(demo, (LINIO2,), load_recipe(matching__engine="pyxem", **coarse)).matches
    ours = match_scan(demo, (LINIO2,), load_recipe(matching__engine="fast", matching__score="pyxem", **coarse)).matches
    assert ours.score == pytest.approx(pyxem.score, abs=1e-5)
    clear = pyxem.score[..., 0] > pyxem.score[..., 1] + 1e-5
    same = np.abs((ours.orientation[:, :, 0] * pyxem.orientation[:, :, 0]).sum(axis=-1)) > 1 - 1e-9
    assert clear.mean() > 0.9
    assert same[clear].all()
