import numpy as np
import pytest
import torch
from diffsims.generators.simulation_generator import SimulationGenerator
from hypothesis import given, settings
from hypothesis import strategies as st
from orix.quaternion import Rotation

from dpcurate import orientations
from dpcurate.kinematic import SPARE_AZIMUTHS, kinematic_spots, lorentzian, plate, within_reach
from dpcurate.phases import orix_phase
from dpcurate.reflections import Reflections, reflections, wavelength_angstrom
from tests.crystals import BY_LAUE_GROUP, LINIO2

torch.set_num_threads(1)  # several workers of pytest share the cores

KEV, WIDTH, K_MAX = 200.0, 0.02, 1.2
ALLOWED = {name: reflections(phase, K_MAX, u_iso_angstrom2=0.0) for name, phase in BY_LAUE_GROUP.items()}
STRONG = 1e-6
"""Share of the strongest spot from which on spots are compared."""

laws = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**32 - 1)
names = st.sampled_from(list(BY_LAUE_GROUP))
cones = st.sampled_from([0.0, 1.0])


def spots_of(name, g, *, precession=0.0, width=WIDTH, thickness=None, kev=KEV):
    return kinematic_spots(
        ALLOWED[name],
        np.atleast_2d(g),
        beam_energy_kev=kev,
        precession_deg=precession,
        max_excitation_error=width,
        thickness_angstrom=thickness,
    )


def theirs(name, g, *, precession, kev=KEV, width=WIDTH, **more):
    """Positions and intensities of diffsims' spots of each orientation up to K_MAX.

    diffsims 0.7 is asked for more and cut, as it takes h no further than (h00) goes: in a hexagonal cell it leaves
    reflections such as (-1 3 -1) out that are shorter than the radius. Forbidden ones, about 1e-18 there, are cut too.
    """
    generator = SimulationGenerator(accelerating_voltage=kev, precession_angle=precession, **more)
    simulation = generator.calculate_diffraction2d(
        orix_phase(BY_LAUE_GROUP[name]),
        rotation=Rotation(g),
        reciprocal_radius=1.2 * K_MAX,
        max_excitation_error=WIDTH,
        shape_factor_width=width,
        with_direct_beam=False,
    )
    found = [(vector.data, np.asarray(vector.intensity)) for vector in simulation.coordinates]
    return [
        (q[keep, :2], intensity[keep])
        for q, intensity in found
        for keep in [(np.linalg.norm(q, axis=1) < K_MAX) & (intensity > 1e-10)]
    ]


def strong(q, intensity):
    """Spots worth comparing, relative to the strongest."""
    q, share = np.asarray(q, float), np.asarray(intensity, float) / max(np.max(intensity, initial=0), 1e-30)
    return q[share > STRONG], share[share > STRONG]


def assert_same_spots(ours, expected, *, q_atol=1e-5, share_atol=1e-4):
    """The same strong spots at the same places, in any order; each is (positions, intensities)."""
    (q, share), (expected_q, expected_share) = strong(*ours), strong(*expected)
    assert len(q) == len(expected_q)
    distance = np.linalg.norm(q[:, None] - expected_q, axis=-1) + 0.1 * np.abs(share[:, None] - expected_share)
    partner = distance.argmin(axis=1) if len(q) else np.zeros(0, int)
    assert len(set(partner)) == len(q)
    assert q == pytest.approx(expected_q[partner], abs=q_atol)
    assert share == pytest.approx(expected_share[partner], abs=share_atol)


def rows(batch):
    return list(zip(batch.q.numpy(), batch.intensity.numpy(), strict=True))


@pytest.mark.parametrize("name", BY_LAUE_GROUP)
@pytest.mark.parametrize("precession", [0.0, 0.4, 1.0])
def test_spots_are_those_of_diffsims(name, precession):
    g = orientations.random_uniform(30, seed=int(10 * precession))
    ours = rows(spots_of(name, g, precession=precession))
    for mine, expected in zip(ours, theirs(name, g, precession=precession), strict=True):
        assert_same_spots(mine, expected)


def test_intensities_are_those_of_diffsims_in_its_own_unit():
    g = orientations.random_uniform(6, seed=3)
    for precession, factor in ((0.0, 1.0), (1.0, WIDTH / 2)):
        batch = spots_of("mmm", g, precession=precession, kev=80.0)
        for mine, (_, expected) in zip(batch.intensity, theirs("mmm", g, precession=precession, kev=80.0), strict=True):
            assert float(mine.sum()) == pytest.approx(factor * expected.sum(), rel=1e-5)


@pytest.mark.parametrize("thickness", [150.0, 400.0])
def test_a_precessed_plate_has_the_spots_of_diffsims_own_integration(thickness):
    g = orientations.random_uniform(2, seed=4)
    expected = theirs(
        "m-3m",
        g,
        precession=1.0,
        width=5 / thickness,  # diffsims' sin2c: the fifth minimum, at s = 5 / thickness
        shape_factor_model="sin2c",
        approximate_precession=False,
    )
    batch = spots_of("m-3m", g, precession=1.0, thickness=thickness)
    for mine, other in zip(rows(batch), expected, strict=True):
        assert_same_spots(mine, other)
        assert mine[1].sum() == pytest.approx(other[1].sum(), rel=1e-4)


def test_a_plate_without_precession_has_the_spots_of_diffsims():
    g = orientations.random_uniform(10, seed=5)
    expected = theirs("-3m", g, precession=0.0, width=5 / 200, shape_factor_model="sin2c")
    for mine, other in zip(rows(spots_of("-3m", g, thickness=200.0)), expected, strict=True):
        assert_same_spots(mine, other)


@laws
@given(seed=seeds, name=names, precession=cones, which=st.integers(0, 23))
def test_symmetric_equivalents_have_the_same_spots(seed, name, precession, which):
    g = orientations.random_uniform(1, seed=seed)
    symmetry = BY_LAUE_GROUP[name].proper_rotations()
    other = orientations.multiply(symmetry[which % len(symmetry)], g)
    a, b = rows(spots_of(name, np.concatenate([g, other]), precession=precession))
    assert_same_spots(a, b, q_atol=1e-6, share_atol=1e-6)


def test_symmetry_on_the_wrong_side_changes_the_spots():
    g = orientations.random_uniform(1, seed=0)
    wrong = orientations.multiply(g, LINIO2.proper_rotations()[1])
    a, b = rows(spots_of("-3m", np.concatenate([g, wrong]), precession=1.0))
    with pytest.raises(AssertionError):
        assert_same_spots(a, b)


@laws
@given(seed=seeds, name=names, precession=cones, angle=st.floats(-180, 180))
def test_a_pattern_turns_with_its_orientation(seed, name, precession, angle):
    g = orientations.random_uniform(1, seed=seed)
    (q, intensity), turned = rows(
        spots_of(name, np.concatenate([g, orientations.turn_pattern(g, angle)]), precession=precession)
    )
    around = np.exp(1j * np.radians(angle)) * (q[:, 0] + 1j * q[:, 1])
    assert_same_spots(turned, (np.stack([around.real, around.imag], axis=1), intensity), q_atol=1e-6, share_atol=1e-6)


@laws
@given(seed=seeds, name=names, precession=cones)
def test_a_pattern_is_mirrored_with_its_orientation(seed, name, precession):
    g = orientations.random_uniform(1, seed=seed)
    (q, intensity), mirrored = rows(
        spots_of(name, np.concatenate([g, orientations.mirror_pattern(g)]), precession=precession)
    )
    assert_same_spots(mirrored, (q * [1, -1], intensity), q_atol=1e-6, share_atol=1e-6)


@laws
@given(seed=seeds, name=names, precession=cones)
def test_a_pattern_does_not_depend_on_its_batch(seed, name, precession):
    g = orientations.random_uniform(4, seed=seed)
    thickness = torch.tensor([50.0, 100.0, 200.0, 400.0])
    together = rows(spots_of(name, g, precession=precession, thickness=thickness))
    for k in range(4):
        assert_same_spots(
            together[k], rows(spots_of(name, g[k], precession=precession, thickness=float(thickness[k])))[0]
        )


def test_padding_comes_last_and_is_zero():
    batch = spots_of("2/m", orientations.random_uniform(40, seed=6), precession=1.0)
    padding = batch.intensity == 0
    assert batch.q.dtype == batch.intensity.dtype == torch.float32
    assert batch.q[padding].abs().max() == 0
    assert (padding.int().diff(dim=1) >= 0).all()
    assert not padding.all(dim=0).any()
    assert padding.any()


def test_nothing_in_reach_gives_no_spots():
    batch = spots_of("m-3m", orientations.random_uniform(2, seed=7), width=1e-9)
    assert batch.q.shape == (2, 0, 2)
    assert batch.intensity.shape == (2, 0)
    assert spots_of("m-3m", np.zeros((0, 4))).intensity.shape == (0, 0)


@laws
@given(r=st.floats(0.01, 2), z=st.floats(-0.2, 0.3), cone=st.floats(0, 2), margin=st.floats(1e-3, 0.05))
def test_what_is_in_reach_is_what_some_azimuth_brings_near_the_sphere(r, z, cone, margin):
    radius, p = 1 / wavelength_angstrom(KEV), np.radians(cone)
    azimuth = np.linspace(0, 2 * np.pi, 721)
    beside = np.hypot(r - radius * np.sin(p) * np.cos(azimuth), radius * np.sin(p) * np.sin(azimuth))
    distance = np.abs(radius * np.cos(p) - np.sqrt(radius**2 - beside**2) - z).min()
    found = within_reach(
        torch.tensor(r, dtype=torch.float64),
        torch.tensor(z, dtype=torch.float64),
        radius=radius,
        precession=p,
        margin=margin,
    )
    if abs(distance - margin) > 2e-3 * cone + 1e-9:  # azimuths between those of this plain search
        assert bool(found) == (distance < margin)


@laws
@given(s=st.floats(-0.05, 0.05), swing=st.floats(0, 0.04))
def test_the_precessed_lorentzian_is_the_mean_over_azimuths(s, swing):
    azimuth = np.linspace(0, 2 * np.pi, 20_000, endpoint=False)
    expected = np.mean(1 / (1 + np.square(np.pi * (s + swing * np.cos(azimuth)) / WIDTH)))
    s, swing = (torch.tensor(value, dtype=torch.float64) for value in (s, swing))
    assert float(lorentzian(s, swing, width=WIDTH)) == pytest.approx(expected, rel=1e-6)


@laws
@given(s=st.floats(-0.05, 0.05), swing=st.floats(0, 0.04), thickness=st.floats(10, 1500))
def test_the_precessed_plate_is_the_mean_over_azimuths(s, swing, thickness):
    azimuth = np.linspace(0, 2 * np.pi, 20_000, endpoint=False)
    expected = np.mean(np.square(np.sinc((s + swing * np.cos(azimuth)) * thickness)))
    found = plate(
        *(torch.tensor([v], dtype=torch.float64) for v in (s, swing)), thickness_angstrom=torch.tensor([thickness])
    )
    assert SPARE_AZIMUTHS > 1
    assert float(found) == pytest.approx(expected, abs=2e-6)


def test_a_reflection_on_the_sphere_has_its_whole_strength():
    radius = 1 / wavelength_angstrom(KEV)
    r = 0.8
    on_sphere = np.array([[r, 0.0, radius - np.sqrt(radius**2 - r**2)]])
    one = Reflections(hkl=np.array([[1, 0, 0]]), g=on_sphere, factor=np.array([3 - 4j]))
    upright = np.array([[1.0, 0, 0, 0]])
    for thickness in (None, 250.0):
        batch = kinematic_spots(
            one,
            upright,
            beam_energy_kev=KEV,
            precession_deg=0,
            max_excitation_error=1e-4,
            thickness_angstrom=thickness,
        )
        assert float(batch.intensity) == pytest.approx(25.0, rel=1e-6)
        assert batch.q[0, 0].numpy() == pytest.approx([r, 0.0], abs=1e-7)
