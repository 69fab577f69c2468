"""What a scan tells of itself, its index too: the sample that it shows, and orientations in its detector's frame."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from dpcurate.crystal_maps import read_index
from dpcurate.errors import InputError
from dpcurate.labels import pixel_splits
from dpcurate.lookalike import confident_orientations, image_of, scan_behind, write_picture
from dpcurate.orientations import disorientation_deg
from dpcurate.scans import open_scan
from dpcurate.simulation_plan import SimulationPlan, SimulationRecipe
from dpcurate.simulator import draw, make_simulator, simulate
from dpcurate.truth import read_truth
from tests.crystals import LINIO2, NICKEL
from tests.small_scan import scan_of, small_index, wrong_labels

QUICK = SimulationRecipe(k_max_inv_angstrom=0.8, n_azimuths=4, spread_deg=0.5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return small_index(tmp_path_factory.mktemp("lookalike"))


@pytest.fixture(scope="module")
def index(folder):
    return read_index(folder)


@pytest.fixture(scope="module")
def image(folder):
    return image_of(folder, QUICK)


def test_the_sample_is_near_what_is_known_of_the_demonstration_scan(image, folder):
    model, instrument = image.recipe.sample, image.recipe.sample.instrument
    thickness = read_truth(scan_of(folder)).thickness_angstrom
    assert instrument.detector == "counting"
    assert instrument.dose_electrons == pytest.approx((12_000, 12_000), rel=0.03)
    low, high = model.thickness_angstrom
    assert 50 <= low <= np.median(thickness)
    assert np.median(thickness) <= high <= 2 * thickness.max()
    assert model.mosaic_deg is None
    assert model.overlap_chance > 0.5, "with every third row and column kept, most pixels touch another grain"


def test_what_cannot_be_measured_stays_as_it_was_asked_for(image, folder):
    own = {name: getattr(QUICK, name) for name in ("orientations", "uniform_share", "sample")}
    assert image.recipe.model_copy(update=own) == QUICK
    calibration = open_scan(scan_of(folder)).calibration
    assert image.geometry.shape == (128, 128)
    assert image.geometry.center_xy == (64.0, 64.0), "that of the index, not one that is looked for anew"
    assert image.geometry.scale_inv_angstrom == calibration.scale_inv_angstrom
    assert image.geometry.precession_deg == calibration.precession_deg
    assert image.phases == (LINIO2,)


def test_parents_are_the_confident_orientations_of_training_grains_alone(image, index):
    assert image.recipe.orientations == "around"
    (parents,) = image.parents
    training = pixel_splits(index, seed=0).reshape(index.shape) == 0
    assert (~training & ~wrong_labels(index.shape)).sum() > 0
    np.testing.assert_array_equal(parents, index.orientation[training & ~wrong_labels(index.shape)])


def test_what_is_simulated_lies_around_them(image, index):
    sure = index.orientation[~wrong_labels(index.shape)]
    for recipe, share in ((image.recipe, 0.5), (image.recipe.model_copy(update={"uniform_share": 0.0}), 1.0)):
        plan = SimulationPlan(recipe=recipe, geometry=image.geometry, seed=1, number=400)
        drawn = draw(make_simulator(plan, image.phases, parents=image.parents), np.arange(400))
        apart = disorientation_deg(drawn.orientation[:, None], sure[None], LINIO2.proper_rotations()).min(axis=1)
        assert np.mean(apart < 3) == pytest.approx(share, abs=0.08)


def test_orientations_are_taken_back_into_the_frame_of_the_detector(index):
    (straight,) = confident_orientations(index, seed=0)
    angle = 30.0
    turned = {**index.info, "calibration": {**index.info["calibration"], "rotation_deg": angle}}
    (parents,) = confident_orientations(replace(index, info=turned), seed=0)
    # the rotation takes the detector's x and y onto the scan's: in the detector, a vector lies turned back by it
    in_scan, in_detector = (Rotation.from_quat(q, scalar_first=True).inv() for q in (straight, parents))
    vector = np.array([0.3, -0.2, 0.9])
    np.testing.assert_allclose(
        Rotation.from_euler("z", angle, degrees=True).apply(in_detector.apply(vector)),
        in_scan.apply(vector),
        atol=1e-9,
    )


def test_a_phase_without_a_confident_label_takes_what_it_has_and_one_without_any_is_refused(index):
    phase_id = index.phase_id.copy()
    phase_id[wrong_labels(index.shape)] = 1
    two = replace(index, phases=(LINIO2, NICKEL), phase_id=phase_id)
    sure, unsure = confident_orientations(two, seed=0)
    training = pixel_splits(two, seed=0).reshape(index.shape) == 0
    np.testing.assert_array_equal(sure, index.orientation[training & ~wrong_labels(index.shape)])
    np.testing.assert_array_equal(unsure, index.orientation[training & wrong_labels(index.shape)])
    with pytest.raises(InputError, match="no pixel of phase Ni"):
        confident_orientations(replace(index, phases=(LINIO2, NICKEL)), seed=0)


def test_the_picture_shows_both(image, tmp_path):
    plan = SimulationPlan(recipe=image.recipe, geometry=image.geometry, seed=1, number=4)
    simulator = make_simulator(plan, image.phases, parents=image.parents)
    path = write_picture(image, simulate(simulator, draw(simulator, np.arange(4))), tmp_path / "both.png")
    assert path == tmp_path / "both.png"
    assert path.read_bytes().startswith(b"\x89PNG")


def test_a_scan_alone_needs_phases_of_different_names(folder):
    with pytest.raises(InputError, match="a scan without an index needs --phase"):
        image_of(scan_of(folder), QUICK)
    ni = "datasets/phases/Ni.cif"
    with pytest.raises(InputError, match="two of them share a name"):
        image_of(scan_of(folder), QUICK, phases=(ni, ni))


def test_a_scan_that_is_gone_changed_or_never_was_a_file_is_refused(index, tmp_path):
    def elsewhere(**scan):
        return replace(index, info={**index.info, "scan": {**index.info["scan"], **scan}})

    assert scan_behind(index).calibration.center_xy == (64.0, 64.0)
    with pytest.raises(InputError, match=r"its scan .*none\.hspy is gone"):
        scan_behind(elsewhere(path=str(tmp_path / "none.hspy")))
    with pytest.raises(InputError, match="changed since .* was made; index it again"):
        scan_behind(elsewhere(path="tests/data/demo.hspy"))
    with pytest.raises(InputError, match="indexes a signal in memory"):
        scan_behind(elsewhere(path=None, sha256=None))
