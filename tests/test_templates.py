"""The cache of engines: the same content is not made twice, damage is mended, and it stays small."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from dpcurate import templates
from dpcurate.engine import Scoring, match_patterns
from dpcurate.errors import InputError
from dpcurate.polar import polar_transform
from dpcurate.templates import cache_folder, cached_engine, library_bytes
from tests.crystals import LINIO2, NICKEL, TITANIUM

SHAPE = (64, 64)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("DPCURATE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def made(*phases, spacing_deg=10.0, scale=0.04, scoring=None):
    transform = polar_transform(
        SHAPE,
        center_xy=(32.0, 32.0),
        scale_inv_angstrom=scale,
        k_min_inv_angstrom=0.15,
        k_max_inv_angstrom=1.2,
        n_radius=48,
        n_azimuth=180,
    )
    return cached_engine(
        phases or (NICKEL,),
        transform=transform,
        spot_sigma_inv_angstrom=0.05,
        spacing_deg=spacing_deg,
        beam_energy_kev=200,
        precession_deg=0.7,
        scoring=scoring,
    )


def same(a, b):
    return all(
        torch.equal(x, y)
        for x, y in ((a.templates, b.templates), (a.grid.amplitude, b.grid.amplitude), (a.grid.place, b.grid.place))
    )


def count(folder):
    return len(list(folder.iterdir()))


def test_an_engine_from_the_cache_is_the_one_that_was_made_and_matches_alike(folder):
    first = made()
    written = next(folder.glob("*.npz")).stat().st_ino
    again = made()
    assert count(folder) == 1
    assert next(folder.glob("*.npz")).stat().st_ino == written, "not made a second time"
    assert same(first, again)
    patterns = np.random.default_rng(0).poisson(3, (4, *SHAPE))
    one, other = (vars(match_patterns(engine, patterns)).values() for engine in (first, again))
    for x, y in zip(one, other, strict=True):
        assert np.array_equal(x, y)


def test_whatever_changes_templates_makes_others(folder):
    engines = [made(), made(TITANIUM), made(NICKEL, TITANIUM), made(spacing_deg=9.0)]
    engines += [made(scoring=Scoring(template_power=0.5)), made(scoring=Scoring(thickness_angstrom=100.0))]
    assert count(folder) == len(engines)
    assert not any(
        same(engines[0], other) for other in engines[1:] if other.templates.shape == engines[0].templates.shape
    )


def test_a_moved_or_rescaled_detector_uses_the_same_templates(folder):
    made()
    made(scale=0.041)
    assert count(folder) == 1


@pytest.mark.parametrize("damage", ["cut", "changed", "empty"])
def test_a_damaged_file_is_made_again(folder, damage):
    first = made()
    path = next(folder.glob("*.npz"))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes({"cut": content[: len(content) // 2], "changed": content, "empty": b""}[damage])
    assert same(made(), first)
    with np.load(path) as file:
        assert np.array_equal(file["templates"], first.templates.numpy()), "and kept again"


def test_two_that_write_at_once_leave_one_whole_file(folder):
    with ThreadPoolExecutor(4) as pool:
        engines = list(pool.map(lambda _: made(), range(4)))
    assert [path.suffix for path in folder.iterdir()] == [".npz"]
    assert all(same(engines[0], other) for other in [*engines, made()])


def test_the_oldest_go_when_there_is_too_much(folder, monkeypatch):
    made()
    old = next(folder.glob("*.npz"))
    os.utime(old, (1, 1))
    monkeypatch.setattr(templates, "CACHE_BYTES", int(1.5 * old.stat().st_size))
    made(spacing_deg=9.9)
    assert count(folder) == 1
    assert not old.exists()


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("DPCURATE_CACHE", str(tmp_path / "file"))
    assert len(made().rotation) > 0


def test_the_cache_lies_where_the_platform_keeps_caches(monkeypatch, tmp_path):
    monkeypatch.delenv("DPCURATE_CACHE")
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "dpcurate"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "dpcurate"


def test_a_library_that_does_not_fit_is_refused_before_it_is_made(monkeypatch, folder):
    monkeypatch.setattr(templates, "_memory_bytes", lambda _: 8 * 10**9)
    with pytest.raises(InputError, match=r"would take about .* GB, .* 8.0 GB of memory. Take --spacing 0\.\d or more"):
        made(LINIO2, spacing_deg=0.1)
    assert not folder.exists()


def test_the_estimate_of_memory_is_near_what_templates_take():
    engine = made(NICKEL, TITANIUM, LINIO2, spacing_deg=4.0)
    tensors = (engine.templates, engine.grid.place, engine.grid.exact, engine.grid.amplitude)
    taken = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    scores = templates.making.BATCH["cpu"] * 8 * torch.get_num_threads() * len(engine.rotation)
    assert 0.7 < (taken + scores) / library_bytes((NICKEL, TITANIUM, LINIO2), spacing_deg=4.0) < 1.1
