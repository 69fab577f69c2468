"""A real scan of 12 x 12 pixels with known truth, an index of it with known label errors, and a run trained on it."""

import functools
import json
from dataclasses import fields
from pathlib import Path

import hyperspy.api as hs
import numpy as np

from dpcurate.crystal_maps import IndexResult, software_versions, write_index
from dpcurate.curate import build_dataset
from dpcurate.grains import find_grains
from dpcurate.orientations import about_z, multiply
from dpcurate.recipe import Recipe, ScanRecipe, recipe_toml
from dpcurate.scans import open_scan, sha256_of
from dpcurate.truth import Truth, read_truth
from dptrain.predict import predict_scan
from dptrain.start import start
from tests.crystals import LINIO2

DEMO = Path("tests/data/demo.hspy")
EVERY = 3
"""Every third row and column of the demonstration scan keeps all its 14 grains."""

WRONG_DEG = 40.0
"""Wrong labels are turned so far about the beam."""


@functools.cache
def small_index(base, name="small") -> Path:
    """``name.hspy`` with ``name.truth.npz`` and ``name.index``: every fifth label wrong and of low confidence.

    Made once in the folder ``base``, a test session's own.
    """
    folder = base / f"{name}-scan"
    folder.mkdir()
    signal = hs.load(str(DEMO)).inav[::EVERY, ::EVERY]
    signal.save(str(folder / f"{name}.hspy"))
    whole = read_truth(DEMO)
    truth = Truth(**{field.name: getattr(whole, field.name)[::EVERY, ::EVERY] for field in fields(Truth)})
    np.savez(folder / f"{name}.truth.npz", **vars(truth))
    scan = open_scan(folder / f"{name}.hspy", ScanRecipe(center_xy=(64.0, 64.0)))
    result = index_of(scan, truth)
    return write_index(result, folder / f"{name}.index", recipe_toml=recipe_toml(Recipe()))


def wrong_labels(shape):
    """Mask of the pixels whose label is wrong."""
    return (np.arange(np.prod(shape)) % 5 == 0).reshape(shape)


def index_of(scan, truth):
    wrong = wrong_labels(scan.shape)
    label = np.where(wrong[..., None], multiply(truth.quat, about_z(WRONG_DEG)), truth.quat)
    phase_id = np.zeros(scan.shape, np.int16)
    confidence = np.where(wrong, 0.2, 0.95).astype(np.float32)
    info = {
        "scan": {"path": str(scan.path), "sha256": sha256_of(scan.path)},
        "shape": list(scan.shape),
        "calibration": scan.calibration.model_dump(mode="json"),
        "phases": [LINIO2.model_dump(mode="json")],
        "engine": "pyxem",
        "software": software_versions(),
    }
    grain = find_grains(truth.quat, phase_id, symmetries=[LINIO2.proper_rotations()], boundary_deg=5.0, min_pixels=1)
    return IndexResult(
        orientation=label,
        phase_id=phase_id,
        confidence=confidence,
        correlation=confidence,
        reliability=confidence,
        agreement=confidence,
        grain_id=grain,
        candidate_orientation=np.repeat(label[:, :, None], 20, axis=2),
        candidate_score=np.repeat(confidence[..., None], 20, axis=2),
        candidate_phase_id=np.repeat(phase_id[..., None], 20, axis=2),
        phases=(LINIO2,),
        info=info,
    )


@functools.cache
def small_run(base) -> Path:
    """A run of two epochs on the small scan, its prediction in it; made once in ``base``."""
    index, root = small_index(base), base / "small-run"
    dataset = build_dataset([index], min_confidence=0.8, simulated=24, root=root / "datasets", progress=False)
    options = {"model": "cnn", "epochs": 2, "batch_size": 16, "input": {"size": 32}, "head": {"max_cells": 100}}
    run = start(options, dataset=str(dataset), name="small", runs_dir=root / "runs", device="cpu")
    predict_scan(run, scan_of(index), Recipe(), device="cpu")
    return run


def scan_of(index) -> Path:
    """The scan that an index was made from."""
    return Path(json.loads((Path(index) / "index.json").read_text(encoding="utf-8"))["scan"]["path"])
