"""Virtual scans: their patterns are those of their truth, and nothing half-written stays."""

import json
import resource
import signal
from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dpcurate.conditions import InstrumentModel, SampleModel
from dpcurate.errors import InputError
from dpcurate.grain_orientations import GrainModel
from dpcurate.microstructure import Specimen, voronoi
from dpcurate.scan_files import SPARE_BYTES
from dpcurate.scans import open_scan
from dpcurate.schema import Atom
from dpcurate.simulation_plan import Geometry, SimulationPlan, SimulationRecipe
from dpcurate.simulator import expected, make_simulator
from dpcurate.truth import read_truth
from dpcurate.virtual_scan import ALONG_THE_SCAN, drawn_pixels, expected_electrons, scan_conditions, simulate_scan
from tests.crystals import LINIO2, NICKEL

PHASES = (NICKEL, LINIO2)
GEOMETRY = Geometry(
    shape=(64, 64), scale_inv_angstrom=0.03, center_xy=(32, 31), beam_energy_kev=200, precession_deg=0.5
)
QUIET = {"hot_fraction": None, "dead_fraction": None}
"""A detector that counts every electron where it arrives."""
SEED = 3


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Small tensors: threads would only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def recipe(physics="kinematical", *, instrument=None, **sample):
    return SimulationRecipe(
        physics=physics,
        k_max_inv_angstrom=0.8,
        n_azimuths=4,
        sample=SampleModel(instrument=InstrumentModel(**(instrument or {})), **sample),
    )


def polycrystal(shape=(6, 6), *, n_grains=4, **model):
    return voronoi(
        shape,
        n_grains=n_grains,
        phases=PHASES,
        seed=SEED,
        grains=GrainModel(**model),
        specimen=Specimen(thickness_limits_angstrom=(150, 500)),
    )


def simulator_of(chosen):
    return make_simulator(SimulationPlan(recipe=chosen, geometry=GEOMETRY, seed=SEED, number=36), PHASES)


def write(structure, folder, chosen=None, **options):
    return simulate_scan(
        structure, PHASES, chosen or recipe(), GEOMETRY, seed=SEED, out=folder / "scan.hspy", **options
    )


def counts_of(path):
    with h5py.File(path) as file:
        (group,) = file["Experiments"].values()
        return group["data"][...]


@pytest.mark.parametrize("physics", ["kinematical", "dynamical"])
def test_a_pixel_inside_a_grain_shows_what_the_simulator_shows_of_its_orientation(physics):
    structure, chosen = polycrystal(spread_deg=1), recipe(physics)
    simulator = simulator_of(chosen)
    inside = np.flatnonzero(structure.weight == 1)
    assert len(inside) > 5
    drawn = drawn_pixels(structure, scan_conditions(structure, chosen, seed=SEED), inside)
    assert np.array_equal(drawn.orientation, structure.quat[structure.weight == 1])
    found = expected_electrons(simulator, drawn)
    assert torch.allclose(found, expected(simulator, drawn), rtol=1e-5, atol=1e-4)
    turned = replace(drawn, orientation=np.roll(drawn.orientation, 3, axis=0))
    assert not torch.allclose(found, expected_electrons(simulator, turned), rtol=0.01, atol=1)


@pytest.mark.parametrize("physics", ["kinematical", "dynamical"])
def test_a_pixel_on_a_boundary_shows_the_weighted_sum_of_its_two_grains(physics):
    structure, chosen = polycrystal(), recipe(physics)
    simulator = simulator_of(chosen)
    boundary = np.flatnonzero(structure.weight < 1)
    assert len(boundary) > 5
    drawn = drawn_pixels(structure, scan_conditions(structure, chosen, seed=SEED), boundary)
    alone = replace(drawn.conditions, first_weight=torch.ones(len(boundary)))
    first = replace(drawn, conditions=alone)
    second = replace(first, phase_id=drawn.phase2_id, orientation=drawn.orientation2)
    weight = torch.as_tensor(structure.weight[structure.weight < 1], dtype=torch.float32)[:, None, None]
    mixed = weight * expected(simulator, first) + (1 - weight) * expected(simulator, second)
    assert torch.allclose(expected_electrons(simulator, drawn), mixed, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("physics", ["kinematical", "dynamical"])
def test_where_no_crystal_is_the_beam_goes_straight_through(physics):
    whole = polycrystal()
    hole = whole.grain == whole.grain[0, 0]
    structure = replace(whole, phase_id=np.where(hole, -1, whole.phase_id))
    chosen = recipe(physics, diffuse_share=None, ring_share=None, instrument=QUIET)
    conditions = scan_conditions(structure, chosen, seed=SEED)
    pixels = np.flatnonzero(hole & (structure.weight == 1))
    image = expected_electrons(simulator_of(chosen), drawn_pixels(structure, conditions, pixels))
    rows, columns = np.indices(GEOMETRY.shape)
    near = np.hypot(rows - 31, columns - 32) < 10
    dose = conditions.dose_electrons[0].item()
    assert np.allclose(image.numpy()[:, near].sum(axis=1), dose, rtol=1e-4)
    whole_image = expected_electrons(simulator_of(chosen), drawn_pixels(whole, conditions, pixels))
    assert (whole_image.numpy()[:, near].sum(axis=1) < 0.99 * dose).all()


def test_the_counts_in_the_file_are_poisson_around_what_is_expected(tmp_path):
    structure, chosen = polycrystal(), recipe(instrument=QUIET)
    counts = counts_of(write(structure, tmp_path, chosen)).reshape(36, -1).astype(float)
    drawn = drawn_pixels(structure, scan_conditions(structure, chosen, seed=SEED), np.arange(36))
    mean = expected_electrons(simulator_of(chosen), drawn).numpy().reshape(36, -1)
    chi2 = ((counts - mean) ** 2 / mean.clip(1e-9))[mean > 0.5]
    assert abs(chi2.mean() - 1) < 0.02
    wrong = ((np.roll(counts, 1, axis=0) - mean) ** 2 / mean.clip(1e-9))[mean > 0.5]
    assert wrong.mean() > 1.1
    assert np.corrcoef(counts[0] - mean[0], counts[1] - mean[1])[0, 1] < 0.1, "each pixel counts its own electrons"


@pytest.mark.parametrize("at_once", [1, 4, 13])
def test_the_same_seed_gives_the_same_scan_whatever_the_block(at_once, tmp_path):
    structure, chosen = polycrystal(), recipe("dynamical")
    whole = write(structure, tmp_path, chosen)
    (tmp_path / "blocks").mkdir()
    blocks = write(structure, tmp_path / "blocks", chosen, at_once=at_once)
    assert np.array_equal(counts_of(whole), counts_of(blocks))
    assert whole.with_name("scan.truth.npz").read_bytes() == blocks.with_name("scan.truth.npz").read_bytes()


def test_the_truth_beside_the_scan_is_the_microstructure(tmp_path):
    structure = polycrystal(spread_deg=1)
    truth = read_truth(write(structure, tmp_path))
    assert truth is not None
    for name, array in vars(structure).items():
        assert np.array_equal(getattr(truth, name), array), name


def test_a_truth_without_phases_is_that_of_one_phase(tmp_path):
    path = write(polycrystal(), tmp_path)
    with np.load(path.with_name("scan.truth.npz")) as file:
        old = {key: file[key] for key in file.files if "phase" not in key}
    np.savez(path.with_name("scan.truth.npz"), **old)
    truth = read_truth(path)
    assert truth is not None
    assert (truth.phase_id == 0).all()
    assert truth.phase2_id.shape == (6, 6)


def test_the_scan_opens_with_its_calibration_and_the_beam_is_found_in_it(tmp_path):
    path = write(polycrystal(), tmp_path, step_nm=2.5)
    scan = open_scan(path)
    assert scan.patterns.dtype == np.uint16
    assert scan.patterns.shape == (6, 6, 64, 64)
    calibration = scan.calibration
    assert calibration.scale_inv_angstrom == pytest.approx(0.03)
    assert calibration.beam_energy_kev == 200
    assert calibration.precession_deg == pytest.approx(0.5)
    assert calibration.step_nm == pytest.approx(2.5)
    assert calibration.sources["center_xy"] == "found in the patterns"
    with np.load(path.with_name("scan.truth.npz")) as file:
        centers = file["center_xy"].reshape(-1, 2)
    drift = np.linalg.norm(np.ptp(centers, axis=0))
    assert 0 < drift <= np.sqrt(2)
    assert np.linalg.norm(np.array(calibration.center_xy) - centers.mean(axis=0)) < 0.1 + drift


def test_one_microscope_takes_the_whole_scan_while_its_centre_drifts():
    structure, chosen = polycrystal((9, 14)), recipe()
    conditions = scan_conditions(structure, chosen, seed=SEED)
    changing = {name for name, column in conditions.as_columns().items() if len(column.unique()) > 1}
    assert changing == set(ALONG_THE_SCAN)
    x = conditions.shift_x_px.reshape(9, 14)
    assert torch.allclose(x[:, 1:] - x[:, :-1], (x[0, 1] - x[0, 0]).expand(9, 13), atol=1e-6)
    other = scan_conditions(structure, chosen, seed=SEED + 1)
    assert other.scale_error[0] != conditions.scale_error[0]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), thickest=st.floats(1, 1e5), diffuse=st.floats(0, 0.89), ring=st.floats(0, 0.1))
def test_thicker_places_scatter_more_and_beams_always_keep_a_share(seed, thickest, diffuse, ring):
    whole = polycrystal()
    ramp = np.linspace(min(1, thickest / 2), thickest, 36).reshape(6, 6)
    chosen = recipe(diffuse_share=(diffuse, diffuse), ring_chance=1, ring_share=(ring, ring))
    conditions = scan_conditions(replace(whole, thickness_angstrom=ramp), chosen, seed=seed)
    assert (conditions.diffuse_share.diff() >= -1e-6).all()
    assert (conditions.direct_share.diff() <= 1e-6).all()
    assert (conditions.diffuse_share + conditions.ring_share <= 1 + 1e-6).all()
    flat = scan_conditions(replace(whole, thickness_angstrom=np.full((6, 6), 300.0)), chosen, seed=seed)
    assert torch.allclose(flat.diffuse_share, torch.tensor(diffuse).float(), atol=1e-5)


def test_the_record_says_what_the_scan_was_made_of(tmp_path):
    structure, chosen = polycrystal(), recipe()
    path = write(structure, tmp_path, chosen, origin={"n_grains": 4})
    record = json.loads(path.with_name("scan.simulation.json").read_text(encoding="utf-8"))
    own = chosen.sample.model_copy(update={"thickness_angstrom": (150, 500)})
    assert SimulationRecipe.model_validate(record["recipe"]) == chosen.model_copy(update={"sample": own})
    assert Geometry.model_validate(record["geometry"]) == GEOMETRY
    assert record["seed"] == SEED
    assert [phase["name"] for phase in record["phases"]] == ["Ni", "LiNiO2"]
    assert record["specimen"] == {"n_grains": 4}
    assert record["conditions"]["scale_error"] == pytest.approx(
        scan_conditions(structure, chosen, seed=SEED).scale_error[0].item()
    )
    assert record["software"].keys() >= {"dpcurate", "torch"}


def test_a_scan_that_is_there_is_replaced_only_when_asked_for(tmp_path):
    structure = polycrystal()
    path = write(structure, tmp_path)
    before = counts_of(path)
    with pytest.raises(InputError, match=r"scan\.hspy: exists already\. Give --overwrite"):
        write(structure, tmp_path)
    path.unlink()
    with pytest.raises(InputError, match=r"scan\.truth\.npz: exists already"):
        write(structure, tmp_path)
    write(structure, tmp_path, recipe(diffuse_share=None), overwrite=True)
    assert not np.array_equal(before, counts_of(path))
    assert names(tmp_path) == {"scan.hspy", "scan.truth.npz", "scan.simulation.json"}


def names(folder):
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("room", [100, 60_000, SPARE_BYTES + 100_000])
def test_a_full_disk_is_one_sentence_and_leaves_the_old_scan(room, tmp_path):
    structure = polycrystal()
    path = write(structure, tmp_path)
    before = counts_of(path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        with pytest.raises(InputError, match=r"scan\.hspy: cannot be written .* Free space"):
            write(structure, tmp_path, overwrite=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert np.array_equal(before, counts_of(path))
    assert names(tmp_path) == {"scan.hspy", "scan.truth.npz", "scan.simulation.json"}


def test_an_interrupted_run_leaves_nothing_and_its_files_are_partial_until_the_end(tmp_path):
    seen = set()

    def interrupt(_, frame):
        seen.update(names(tmp_path))
        collecting = frame.f_code.co_name == "gc_callback"  # hypothesis's, in which nothing can be raised
        if "scan.partial.hspy" in seen and not collecting:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
    try:
        with pytest.raises(KeyboardInterrupt):
            write(polycrystal((40, 40)), tmp_path, recipe("dynamical"), at_once=1)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert "scan.partial.hspy" in seen
    assert not seen & {"scan.hspy", "scan.truth.npz"}
    assert names(tmp_path) == set()


def test_too_thick_a_specimen_and_too_large_a_cell_are_refused(tmp_path):
    thick = replace(polycrystal(), thickness_angstrom=np.full((6, 6), 2e5))
    with pytest.raises(InputError, match="thickness 200000 Å: at most 100000"):
        write(thick, tmp_path)
    large = NICKEL.model_copy(update={"name": "large", "lattice": (60, 60, 60, 90, 90, 90)})
    with pytest.raises(InputError, match=r"phase large: .* beams .* GiB"):
        simulate_scan(polycrystal(), (large, NICKEL), recipe("dynamical"), GEOMETRY, seed=0, out=tmp_path / "scan.hspy")
    assert names(tmp_path) == set()


def test_partial_occupancy_is_no_obstacle(tmp_path):
    atoms = (Atom(element="Ni", x=0, y=0, z=0, occupancy=0.5), *NICKEL.atoms)
    mixed = NICKEL.model_copy(update={"atoms": atoms})
    simulate_scan(polycrystal(), (mixed, LINIO2), recipe(), GEOMETRY, seed=0, out=tmp_path / "scan.hspy")
