"""Estimates from scans, by closing the loop: patterns simulated under known conditions, estimated, compared."""

import numpy as np
import pytest

from dpcurate.conditions import InstrumentModel, SampleModel
from dpcurate.errors import InputError
from dpcurate.likeness import ScanSample, estimate_recipe, measured, sample_scan
from dpcurate.likeness_figures import write_likeness
from dpcurate.likeness_fits import (
    background_gaussians,
    disk_radius,
    scale_error,
    thickness_range,
    weighted_quantiles,
)
from dpcurate.likeness_theory import Beams, beams_of
from dpcurate.pattern_features import measure
from dpcurate.scans import open_scan
from dpcurate.simulation_plan import Geometry, SimulationPlan, SimulationRecipe
from dpcurate.simulator import draw, make_simulator, simulate
from tests.crystals import LINIO2, NICKEL

GEOMETRY = Geometry(
    shape=(64, 64), scale_inv_angstrom=0.036, center_xy=(32.2, 31.6), beam_energy_kev=200, precession_deg=0.7
)
QUICK = SimulationRecipe(n_azimuths=4, k_max_inv_angstrom=1.1)
N = 64


def virtual_sample(phase, model: SampleModel, *, physics: str = "dynamical", seed: int = 5) -> ScanSample:
    """Patterns of a phase under known conditions, as a 8 x 8 scan."""
    recipe = QUICK.model_copy(update={"sample": model, "physics": physics})
    plan = SimulationPlan(recipe=recipe, geometry=GEOMETRY, seed=seed, number=N)
    simulator = make_simulator(plan, [phase])
    drawn = draw(simulator, np.arange(N))
    row, column = np.mgrid[:8, :8].reshape(2, -1)
    pixel = np.stack([row, column], axis=1)
    return ScanSample(simulate(simulator, drawn), pixel, pixel[:, ::-1] / 7, GEOMETRY)


def known_model(**changes) -> SampleModel:
    """A sample whose every part is known."""
    instrument = InstrumentModel(
        number=1000,
        dose_electrons=(20_000, 30_000),
        spot_sigma_px=(1.2, 1.5),
        point_spread_sigma_px=None,
        hot_fraction=None,
        dead_fraction=None,
        scale_error=None,
        ellipse_ratio=None,
        descan_px=None,
    )
    values = {
        "thickness_angstrom": (200, 400),
        "mosaic_deg": None,
        "overlap_chance": 0.0,
        "diffuse_share": (0.2, 0.3),
        "diffuse_width_inv_angstrom": (0.35, 0.4),
        "diffuse_core_share": None,
        "ring_share": None,
        "ring_chance": 0.0,
        "center_shift_px": (0.0, 0.8),
        "instrument": instrument,
    }
    return SampleModel(**(values | changes))


@pytest.mark.parametrize("phase", [LINIO2, NICKEL], ids=["LiNiO2", "Ni"])
def test_known_conditions_come_back(phase) -> None:
    sample = virtual_sample(phase, known_model())
    found = estimate_recipe(sample, [phase], recipe=QUICK).sample
    instrument = found.instrument
    assert instrument.detector == "counting"
    assert instrument.dose_electrons == pytest.approx((20_000, 30_000), rel=0.08)
    assert instrument.spot_sigma_px == pytest.approx((1.2, 1.5), abs=0.1)
    background = found.diffuse_share[0] + found.inelastic_share[0], found.diffuse_share[1] + found.inelastic_share[1]
    assert background == pytest.approx((0.2, 0.3), abs=0.05)
    assert found.center_shift_px == pytest.approx((0.0, 0.8), abs=0.12)
    low, high = found.thickness_angstrom
    assert low <= 400
    assert 200 <= high <= 900


def test_simulated_in_its_image_the_measurements_agree() -> None:
    sample = virtual_sample(NICKEL, known_model(diffuse_core_share=(0.3, 0.3)))
    found = estimate_recipe(sample, [NICKEL], recipe=QUICK).sample
    again = virtual_sample(NICKEL, found, seed=8)
    real, made = (measured(some.patterns, GEOMETRY) for some in (sample, again))
    for name, tolerance in (
        ("total", 0.03),
        ("direct_sigma_px", 0.03),
        ("direct_share", 0.05),
        ("background_share", 0.06),
        ("background_radius", 0.06),
    ):
        assert np.median(getattr(made, name)) == pytest.approx(np.median(getattr(real, name)), rel=tolerance), name
    assert np.median(made.spot_count) == pytest.approx(np.median(real.spot_count), abs=4)


def test_an_integrating_detector_with_faults_and_drift_is_recognised() -> None:
    instrument = known_model().instrument.model_copy(
        update={
            "number": 1,
            "detector": "integrating",
            "gain_counts_per_electron": (9.0, 9.0),
            "readout_noise_counts": (2.0, 2.0),
            "hot_fraction": (2e-3, 2e-3),
            "hot_electrons": (400.0, 400.0),
        }
    )
    sample = virtual_sample(NICKEL, known_model(instrument=instrument), physics="kinematical")
    recipe = QUICK.model_copy(update={"physics": "kinematical"})
    found = estimate_recipe(sample, [NICKEL], recipe=recipe).sample
    assert found.instrument.detector == "integrating"
    assert found.instrument.gain_counts_per_electron == pytest.approx((9.0, 9.0), rel=0.15)
    assert found.instrument.hot_fraction == pytest.approx((2e-3, 2e-3), rel=0.25)
    assert found.instrument.hot_electrons == pytest.approx((400.0, 400.0), rel=0.15)
    assert found.instrument.dose_electrons[0] > 15_000
    low, high = found.direct_share
    assert 0.5 < (low + high) / 2 < 0.95
    assert found.thickness_angstrom == recipe.sample.thickness_angstrom


def test_the_drift_of_the_centre_over_a_scan_is_told_from_its_scatter() -> None:
    sample = virtual_sample(NICKEL, known_model(center_shift_px=None))
    drifting = np.stack(
        [
            np.roll(image, round(3 * y) - 1, axis=0)
            for image, (_, y) in zip(sample.patterns, sample.position, strict=True)
        ]
    )
    still = estimate_recipe(sample, [NICKEL], recipe=QUICK).sample
    moved = estimate_recipe(
        ScanSample(drifting, sample.pixel, sample.position, GEOMETRY), [NICKEL], recipe=QUICK
    ).sample
    assert still.instrument.descan_px is None
    assert still.center_shift_px is None
    # a drift along one axis alone is that of a turned and scaled square by 1 / sqrt(2)
    assert moved.instrument.descan_px == pytest.approx((3 / 2**0.5, 3 / 2**0.5), rel=0.2)


def test_three_gaussians_describe_an_exponential_fall() -> None:
    rings = np.arange(90)
    pixels = 2 * np.pi * np.maximum(rings, 0.3)
    level = 3 * np.exp(-rings / 14)
    parts = background_gaussians(level * pixels, pixels, first_ring=6, least_px=3.0)
    found = (
        parts[:, 0] / (2 * np.pi * parts[:, 1] ** 2) * np.exp(-(rings[:, None] ** 2) / (2 * parts[:, 1] ** 2))
    ).sum(1)
    np.testing.assert_allclose(found[8:75], level[8:75], rtol=0.1)
    assert (np.diff(parts[:, 1]) >= 0).all()


@pytest.mark.parametrize("radius", [0.0, 4.0, 7.0])
def test_a_disk_is_told_from_a_spot(radius: float) -> None:
    r = np.arange(40)
    profile = 0.01 * np.exp(-(r**2) / (2 * 1.4**2)) if radius == 0 else 0.005 * (1 - np.tanh((r - radius) / 0.8))
    found, blur = disk_radius(profile, sigma_px=1.4 if radius == 0 else 0.55 * radius)
    assert found == pytest.approx(radius, abs=0.4)
    assert 0.2 <= blur <= 2


def fake_beams(n: int = 60) -> Beams:
    """Beams whose direct share falls with thickness, differently in each pattern."""
    t = np.arange(50.0, 1001.0, 50.0)
    rng = np.random.default_rng(2)
    lost = 1 - np.exp(-t / rng.uniform(600, 3000, (n, 1)))
    shares = rng.dirichlet(np.ones(6), n)
    return Beams(t, rng.uniform(-1, 1, (n, 6, 2)), lost[:, :, None] * shares[:, None], 1 - lost)


def test_a_thickness_range_holds_the_one_it_was_made_of() -> None:
    beams = fake_beams()
    weight = ((beams.thickness_angstrom >= 200) & (beams.thickness_angstrom <= 400)).astype(float)
    low, high = thickness_range(beams, tuple(weighted_quantiles(share, weight) for share in beams.shares()))
    assert low <= 250
    assert high >= 350
    assert high - low <= 400


@pytest.mark.parametrize("larger", [0.0, 0.013, -0.02])
def test_an_error_of_scale_is_found_from_known_orientations(larger: float) -> None:
    instrument = known_model().instrument.model_copy(update={"scale_error": (larger, larger)})
    sample = virtual_sample(LINIO2, known_model(instrument=instrument))
    recipe = QUICK.model_copy(update={"sample": known_model()})
    plan = SimulationPlan(recipe=recipe, geometry=GEOMETRY, seed=5, number=N)
    simulator = make_simulator(plan, [LINIO2])
    drawn = draw(simulator, np.arange(N))
    beams = beams_of(simulator, drawn.orientation, drawn.phase_id)
    scale = GEOMETRY.scale_inv_angstrom
    features = measured(sample.patterns, GEOMETRY)
    found = scale_error(sample.patterns.astype(float), features, beams, scale_inv_angstrom=scale)
    assert found == pytest.approx(larger, abs=0.004)
    upside_down = Beams(beams.thickness_angstrom, beams.q[::-1] * 0.01, beams.intensity, beams.direct)
    assert scale_error(sample.patterns.astype(float), features, upside_down, scale_inv_angstrom=scale) is None


def test_the_demonstration_scan_is_sampled_with_its_calibration_and_pictured(tmp_path) -> None:
    sample = sample_scan(open_scan("tests/data/demo.hspy"), 25)
    assert 16 <= len(sample.patterns) <= 49
    assert sample.geometry.shape == sample.patterns.shape[1:]
    assert sample.position.min() >= 0
    assert sample.position.max() <= 1
    features = measure(
        sample.patterns, scale_inv_angstrom=sample.geometry.scale_inv_angstrom, center_xy=sample.geometry.center_xy
    )
    patterns = (sample.patterns, sample.patterns[::-1])
    path = write_likeness(patterns, (features, features), tmp_path / "a" / "b.png", scale_inv_angstrom=0.02)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_a_scan_without_a_usable_pattern_is_refused() -> None:
    scan = open_scan("tests/data/demo.hspy")
    empty = type(scan)(path=scan.path, patterns=scan.patterns * 0, calibration=scan.calibration)
    with pytest.raises(InputError, match="none of .* patterns is usable"):
        sample_scan(empty, 9)
