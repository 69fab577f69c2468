"""The network's answers as starts of matching."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from dpcurate.crystal_maps import read_index
from dpcurate.engine import COARSE_ANGLES
from dpcurate.errors import InputError
from dpcurate.matchers import engine_of
from dpcurate.orientations import disorientation_deg, multiply, random_uniform
from dpcurate.pipeline import outermost
from dpcurate.recipe import Recipe, ScanRecipe
from dpcurate.refine import PICTURE_ANGLES, Climbers, orientations
from dpcurate.scans import open_scan
from dpcurate.truth import read_truth
from dptrain.cli import app
from dptrain.refine_proposals import NEAREST, axis_trees, check_atoms, refine_proposals, starts
from tests.crystals import LINIO2
from tests.small_scan import scan_of, small_index, small_run

SYMMETRY = LINIO2.proper_rotations()


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    return open_scan(scan_of(small_index(tmp_path_factory.getbasetemp())), ScanRecipe(center_xy=(64.0, 64.0)))


@pytest.fixture(scope="module")
def engine(scan):
    return engine_of(scan, (LINIO2,), Recipe(), k_max=outermost(scan, Recipe()))


def turned_off(orientation, *, low_deg, high_deg, seed):
    """Orientations turned about random axes by angles in between."""
    rng = np.random.default_rng(seed)
    axis = rng.normal(size=(*orientation.shape[:-1], 3))
    half = np.radians(rng.uniform(low_deg, high_deg, orientation.shape[:-1])) / 2
    vector = np.sin(half)[..., None] * axis / np.linalg.norm(axis, axis=-1, keepdims=True)
    return multiply(orientation, np.concatenate([np.cos(half)[..., None], vector], axis=-1))


def test_answers_two_to_four_degrees_off_come_to_where_the_truth_itself_climbs_to(scan):
    truth = read_truth(scan.path).quat
    near = turned_off(truth, low_deg=2, high_deg=4, seed=0)
    assert disorientation_deg(near, truth, SYMMETRY).min() > 1.9
    wrong = turned_off(truth, low_deg=40, high_deg=60, seed=1)
    shape = (*scan.shape, 2)
    given = (np.broadcast_to(np.float32([0.7, 0.3]), shape), np.zeros(shape, np.int16))
    found, best = (
        refine_proposals(
            scan, np.stack([wrong, start], axis=2), *given, phases=(LINIO2,), recipe=Recipe(), progress=False
        )
        for start in (near, truth)
    )
    answer, possible = found.matches.orientation[:, :, 0], best.matches.orientation[:, :, 0]
    error = disorientation_deg(answer, truth, SYMMETRY)
    assert np.median(error) < 0.5
    assert (error < 3).mean() > 0.95
    assert (disorientation_deg(answer, possible, SYMMETRY) < 0.1).mean() > 0.9
    np.testing.assert_allclose(found.probability[..., 0][error < 3], 0.3)
    assert (np.diff(found.matches.score, axis=-1) <= 1e-6).all()


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000))
def test_templates_near_a_proposal_are_near_it_mirrored_or_not_whatever_its_equivalent(engine, seed):
    proposal = random_uniform(8, seed=seed)
    phase_id = np.zeros((8, 1), np.int16)
    index, angle = starts(engine, axis_trees(engine), proposal[:, None], phase_id)
    reached = as_orientations(engine, index, angle)
    error = disorientation_deg(reached, proposal[:, None], SYMMETRY)
    assert reached.shape == (8, NEAREST, 4)
    assert error.max() < 9
    assert error.min(axis=1).max() < 4.5, "half a step of 6 degrees in the plane, and 1.2 to the next zone axis"
    other = multiply(SYMMETRY[seed % len(SYMMETRY)], proposal)
    index2, angle2 = starts(engine, axis_trees(engine), other[:, None], phase_id)
    np.testing.assert_allclose(
        np.sort(disorientation_deg(as_orientations(engine, index2, angle2), proposal[:, None], SYMMETRY)),
        np.sort(error),
        atol=1e-3,
    )


def as_orientations(engine, index, angle):
    n = len(engine.rotation)
    climbers = Climbers(
        torch.as_tensor(index % n),
        torch.as_tensor(np.where(index >= n, -1, 1)),
        torch.zeros(*index.shape, 2, dtype=torch.int64),
        torch.as_tensor(angle) * PICTURE_ANGLES / COARSE_ANGLES,
        torch.zeros(index.shape),
    )
    return orientations(climbers, engine.rotation, step_deg=engine.grid.step_deg)


def test_phases_without_atoms_are_one_sentence():
    check_atoms((LINIO2,), what="it")
    bare = LINIO2.model_copy(update={"atoms": ()})
    with pytest.raises(InputError, match="it: its phase .* has no atoms, of which --refine makes templates"):
        check_atoms((LINIO2, bare), what="it")


def test_the_command_keeps_both_scores(tmp_path_factory, tmp_path):
    base = tmp_path_factory.getbasetemp()
    run, scan = small_run(base), scan_of(small_index(base))
    arguments = ["predict", str(run), str(scan), "--device", "cpu", "--refine", "--out", str(tmp_path / "refined")]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    plain, refined = read_index(run / "small.predicted"), read_index(tmp_path / "refined")
    assert refined.candidate_probability.shape == refined.candidate_score.shape == (12, 12, 20)
    np.testing.assert_array_equal(refined.correlation, refined.candidate_score[..., 0])
    np.testing.assert_allclose(refined.confidence, np.clip(refined.candidate_probability[..., 0], 0, 1))
    assert set(np.unique(refined.candidate_probability)) <= set(np.unique(plain.candidate_score))
    assert refined.info["seconds"].keys() == {"prediction", "refinement"}
    assert np.isnan(plain.correlation).all()
    assert plain.candidate_probability is None
