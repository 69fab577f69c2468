"""Synthetic index results of any size: two phases, grains bent a little, pixels that are not indexed."""

from dataclasses import fields

import numpy as np

from dpcurate.crystal_maps import IndexResult
from dpcurate.grains import find_grains
from dpcurate.orientations import multiply, random_uniform
from tests.crystals import LINIO2, NICKEL

BEND_DEG = 2.0
"""Between the left and the right end of a map."""


def index_result(shape=(12, 15), *, phases=(LINIO2, NICKEL), n_best=5, n_grains=6, step_nm=2.5, seed=0):
    """A result of Voronoi grains, the phases in turn; a few pixels not indexed, a few misindexed."""
    rng = np.random.default_rng(seed)
    place = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), axis=-1)
    seeds = rng.uniform(size=(n_grains, 2)) * shape
    cell = np.square(place[:, :, None] - seeds).sum(axis=-1).argmin(axis=-1)
    angle = np.radians(BEND_DEG) * place[..., 1] / shape[1] / 2
    bend = np.stack([np.cos(angle), *[np.zeros(shape)] * 2, np.sin(angle)], axis=-1)
    label = multiply(random_uniform(n_grains, seed=rng)[cell], bend)
    wrong = rng.uniform(size=shape) < 0.02
    label[wrong] = random_uniform(int(wrong.sum()), seed=rng)
    empty = rng.uniform(size=shape) < 0.03
    phase_id = np.where(empty, -1, cell % len(phases)).astype(np.int16)
    candidates = random_uniform(n_best * phase_id.size, seed=rng).reshape(*shape, n_best, 4)
    candidates[:, :, 0] = label
    score = np.sort(rng.uniform(0.1, 0.6, (*shape, n_best)).astype(np.float32), axis=-1)[..., ::-1]
    candidate_phase_id = rng.integers(0, len(phases), (*shape, n_best)).astype(np.int16)
    candidate_phase_id[..., 0] = np.maximum(phase_id, 0)
    trust = np.where(empty, 0, rng.uniform(0.5, 1, shape)).astype(np.float32)
    symmetries = [phase.proper_rotations() for phase in phases]
    return IndexResult(
        orientation=label,
        phase_id=phase_id,
        confidence=trust,
        correlation=np.where(empty, 0, score[..., 0]).astype(np.float32),
        reliability=trust / 4,
        agreement=trust,
        grain_id=find_grains(label, phase_id, symmetries=symmetries, boundary_deg=5.0, min_pixels=3),
        candidate_orientation=candidates,
        candidate_score=np.ascontiguousarray(score),
        candidate_phase_id=candidate_phase_id,
        phases=tuple(phases),
        info=info_of(shape, phases, step_nm=step_nm),
    )


def info_of(shape, phases, *, step_nm):
    return {
        "scan": {"path": "made.hspy", "sha256": "0" * 64},
        "shape": list(shape),
        "calibration": {
            "scale_inv_angstrom": 0.02,
            "center_xy": [63.5, 63.5],
            "beam_energy_kev": 200.0,
            "precession_deg": 0.7,
            "step_nm": step_nm,
            "rotation_deg": 0.0,
            "flip": False,
            "sources": {"step_nm": "metadata"},
        },
        "phases": [phase.model_dump(mode="json") for phase in phases],
        "engine": "made by the tests",
        "seconds": {"matching": 2.0},
        "skipped": {"empty": 0},
    }


def arrays_of(result):
    """Every array of a result by its name."""
    values = {field.name: getattr(result, field.name) for field in fields(result)}
    return {name: value for name, value in values.items() if isinstance(value, np.ndarray)}
