"""From spots to counts: what is put in comes out, where it should, whatever else is in the batch."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import dblquad

from dpcurate.conditions import Conditions, InstrumentModel, SampleModel, draw_conditions
from dpcurate.detector import count, render
from dpcurate.draws import normal, uniform

SCALE, CENTER, SHAPE = 0.02, (32.0, 30.0), (61, 65)
DETECTOR = {"scale_inv_angstrom": SCALE, "center_xy": CENTER, "beam_energy_kev": 200.0, "shape": SHAPE}

EVERYTHING = SampleModel(
    inelastic_share=(0.0, 0.2),
    ring_chance=0.5,
    instrument=InstrumentModel(
        detector="integrating",
        gain_counts_per_electron=(1, 5),
        readout_noise_counts=(0, 3),
        convergence_mrad=(0, 2),
        beam_stop_radius_px=(2, 8),
        hot_fraction=(0, 0.01),
        dead_fraction=(0, 0.01),
    ),
)
"""Every part switched on, in some patterns at least."""


def bare(b=1, *, sigma=1.2, dose=1e4, direct=0.0, **values) -> Conditions:
    """Conditions with nothing but beams, for b patterns; values by name."""
    conditions = draw_conditions(torch.arange(b), SampleModel(), seed=0)
    off = {name: torch.zeros_like(column) for name, column in conditions.as_columns().items()}
    kept = dict.fromkeys(("ellipse_ratio", "gain_counts_per_electron", "first_weight"), 1.0)
    widths = dict.fromkeys(("diffuse_width_inv_angstrom", "diffuse_core_width_inv_angstrom"), 0.1)
    kept |= widths | {"spot_sigma_px": sigma, "dose_electrons": dose, "direct_share": direct, **values}
    return replace(conditions, **off | {name: torch.full((b,), float(value)) for name, value in kept.items()})


def spots(b, k, *, seed=0, reach=0.45):
    """Positions within a reach in 1/Angstrom, and intensities."""
    index = torch.arange(b)
    q = (uniform(index, seed=seed, stream=1, n=2 * k).reshape(b, k, 2) - 0.5) * 2 * reach
    return q, normal(index, seed=seed, stream=2, n=k).exp()


def centroid(image):
    total = image.sum()
    rows, columns = torch.arange(image.shape[0]), torch.arange(image.shape[1])
    return float((image.sum(0) * columns).sum() / total), float((image.sum(1) * rows).sum() / total)


def test_expected_electrons_add_up_to_the_dose():
    q, intensity = spots(8, 20)
    conditions = bare(8, direct=0.4, diffuse_share=0.2, inelastic_share=0.1, inelastic_sigma_px=2)
    images = render(q, intensity, conditions, **DETECTOR).double()
    assert torch.allclose(images.sum((1, 2)), torch.tensor(1e4).double(), rtol=1e-4)


@pytest.mark.parametrize("convergence", [0.0, 1.0, 2.5])
def test_beams_keep_their_electrons_whether_spots_or_disks(convergence):
    q, intensity = spots(3, 12, reach=0.35)
    images = render(q, intensity, bare(3, sigma=0.5, convergence_mrad=convergence), **DETECTOR).double()
    assert torch.allclose(images.sum((1, 2)), torch.tensor(1e4).double(), rtol=1e-5)


@settings(max_examples=30, deadline=None)
@given(
    x=st.floats(-0.4, 0.4),
    y=st.floats(-0.4, 0.4),
    sigma=st.floats(0.5, 2.0),  # below, pixels are too coarse for their own centroid
    convergence=st.sampled_from([0.0, 1.0, 2.0]),
)
def test_a_spot_lies_where_its_vector_points(x, y, sigma, convergence):
    conditions = bare(sigma=sigma, convergence_mrad=convergence)
    image = render(torch.tensor([[[x, y]]]), torch.ones(1, 1), conditions, **DETECTOR)[0]
    expected = (CENTER[0] + x / SCALE, CENTER[1] + y / SCALE)
    assert centroid(image) == pytest.approx(expected, abs=0.02)


def test_a_spot_is_a_gaussian_integrated_over_each_pixel():
    image = render(torch.tensor([[[0.013, -0.006]]]), torch.ones(1, 1), bare(sigma=0.6, dose=1.0), **DETECTOR)[0]
    x0, y0, s = CENTER[0] + 0.65, CENTER[1] - 0.3, 0.6

    def density(y, x):
        return np.exp(-((x - x0) ** 2 + (y - y0) ** 2) / (2 * s**2)) / (2 * np.pi * s**2)

    for i, j in ((30, 32), (29, 33), (28, 31)):
        assert float(image[i, j]) == pytest.approx(dblquad(density, j - 0.5, j + 0.5, i - 0.5, i + 0.5)[0], rel=1e-4)


def test_a_disk_has_the_radius_of_the_convergence_angle():
    image = render(torch.zeros(1, 1, 2), torch.ones(1, 1), bare(sigma=0.2, convergence_mrad=4.0), **DETECTOR)[0]
    radius = 4e-3 / 0.025079 / SCALE  # wavelength at 200 kV: 0.025079 Angstrom
    assert float(1e4 / image[30, 32]) == pytest.approx(np.pi * radius**2, rel=0.02)
    half = float(image[30, 32]) / 2
    assert (image[30] > half).sum() == pytest.approx(2 * radius, abs=1)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), x=st.integers(-3, 3), y=st.integers(-3, 3))
def test_a_shift_by_whole_pixels_moves_the_picture_exactly(seed, x, y):
    q, intensity = spots(4, 15, seed=seed, reach=0.3)
    parts = {"direct": 0.3, "diffuse_share": 0.2, "ring_share": 0.1, "ring_radius_inv_angstrom": 0.3}
    parts |= {"ring_width_inv_angstrom": 0.03, "ellipse_ratio": 1.1, "ellipse_angle_deg": 30}
    still = render(q, intensity, bare(4, **parts), **DETECTOR)
    moved = render(q, intensity, bare(4, **parts, shift_x_px=x, shift_y_px=y), **DETECTOR)
    inner = still[:, 5:-5, 5:-5]
    assert torch.allclose(moved[:, 5 + y : 56 + y, 5 + x : 60 + x], inner, rtol=1e-4, atol=1e-3)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), convergence=st.sampled_from([0.0, 1.5]))
def test_spots_turned_by_90_degrees_turn_the_picture(seed, convergence):
    q, intensity = spots(3, 15, seed=seed)
    square = {**DETECTOR, "center_xy": (30.0, 30.0), "shape": (61, 61)}
    parts = {"direct": 0.3, "diffuse_share": 0.2, "ring_share": 0.1, "ring_radius_inv_angstrom": 0.3}
    parts |= {"ring_width_inv_angstrom": 0.03, "convergence_mrad": convergence, "beam_stop_radius_px": 4}
    # x to y, y to -x: from the right to the bottom, as rot90 turns with k = -1
    turned = torch.stack([-q[..., 1], q[..., 0]], dim=-1)
    one, two = (render(p, intensity, bare(3, **parts), **square) for p in (q, turned))
    assert torch.allclose(torch.rot90(one, -1, (1, 2)), two, rtol=1e-4, atol=1e-3)
    assert not torch.allclose(torch.rot90(one, 1, (1, 2)), two, rtol=1e-4, atol=1e-3)


def test_a_calibration_error_scales_and_an_ellipse_stretches_along_its_axis():
    angle = np.radians(30)
    along, across = (np.cos(angle), np.sin(angle)), (-np.sin(angle), np.cos(angle))
    q = 0.3 * torch.tensor([[along], [across]], dtype=torch.float32)
    conditions = bare(2, scale_error=0.05, ellipse_ratio=1.21, ellipse_angle_deg=30)
    images = render(q, torch.ones(2, 1), conditions, **DETECTOR)
    for image, way, factor in zip(images, (along, across), (1.05 * 1.1, 1.05 / 1.1), strict=True):
        expected = [c + 0.3 * factor * w / SCALE for c, w in zip(CENTER, way, strict=True)]
        assert centroid(image) == pytest.approx(expected, abs=0.02)


def test_the_ring_holds_its_share_where_it_should():
    parts = {"ring_share": 0.25, "ring_radius_inv_angstrom": 0.3, "ring_width_inv_angstrom": 0.02}
    with_ring = render(torch.zeros(1, 1, 2), torch.ones(1, 1), bare(**parts, direct=1.0), **DETECTOR)[0].double()
    y, x = torch.meshgrid(torch.arange(61) - CENTER[1], torch.arange(65) - CENTER[0], indexing="ij")
    far = torch.hypot(x, y) > 8
    assert float(with_ring[far].sum()) == pytest.approx(2500, rel=1e-3)
    radius = (with_ring * torch.hypot(x, y))[far].sum() / with_ring[far].sum() * SCALE
    assert float(radius) == pytest.approx(0.3 + 0.02**2 / 0.3, rel=1e-3)  # outer half has the larger area


def test_dynamical_direct_beams_are_used_as_given():
    q, intensity = torch.full((2, 1, 2), 0.3), torch.tensor([[0.2], [0.0]])
    conditions = bare(2, direct=0.77, sigma=0.8)
    images = render(q, intensity, conditions, direct=torch.tensor([0.6, 0.9]), **DETECTOR)
    beams = images[:, 25:36, 27:38].sum((1, 2))
    assert beams.tolist() == pytest.approx([7500, 10_000], rel=1e-4)


def test_a_pattern_without_spots_is_all_direct_beam():
    image = render(torch.zeros(1, 3, 2), torch.zeros(1, 3), bare(direct=0.6), **DETECTOR)[0]
    assert float(image.sum()) == pytest.approx(1e4, rel=1e-5)


@settings(max_examples=15, deadline=None)
@given(order=st.permutations(range(40)), size=st.integers(1, 40), pad=st.integers(0, 9), seed=st.integers(0, 99))
def test_a_pattern_does_not_depend_on_its_batch(order, size, pad, seed):
    index = torch.arange(40)
    (q, intensity), conditions = spots(40, 17, seed=seed), draw_conditions(index, EVERYTHING, seed=seed)
    expected = render(q, intensity, conditions, **DETECTOR)
    counts = count(expected, conditions, index, seed=seed)
    some = torch.tensor(order[:size])
    padded_q, padded = (torch.cat([v[some], torch.zeros_like(v[some][:, :pad])], dim=1) for v in (q, intensity))
    alone = render(padded_q, padded, conditions[some], **DETECTOR)
    assert torch.equal(alone, expected[some])
    assert torch.equal(count(alone, conditions[some], some, seed=seed), counts[some])


@pytest.mark.parametrize(
    ("part", "companions"),
    [
        ("inelastic_share", {"inelastic_sigma_px": 4}),
        ("diffuse_share", {"diffuse_width_inv_angstrom": 0.2}),
        ("ring_share", {"ring_radius_inv_angstrom": 0.3, "ring_width_inv_angstrom": 0.03}),
        ("shift_x_px", {}),
        ("shift_y_px", {}),
        ("scale_error", {}),
        ("convergence_mrad", {}),
        ("point_spread_sigma_px", {}),
        ("beam_stop_radius_px", {}),
    ],
)
def test_each_part_changes_the_picture_and_leaves_no_trace_when_off(part, companions):
    q, intensity = spots(2, 9)
    plain = render(q, intensity, bare(2, direct=0.5), **DETECTOR)
    on = render(q, intensity, bare(2, direct=0.5, **companions, **{part: 0.9}), **DETECTOR)
    off = render(q, intensity, bare(2, direct=0.5, **companions, **{part: 0.0}), **DETECTOR)
    assert torch.equal(off, plain)
    assert (on - plain).abs().max() > 1


def test_the_beam_stop_lets_nothing_through_and_leaves_the_rest_alone():
    q, intensity = spots(1, 30)
    open_, stopped = (
        render(q, intensity, bare(diffuse_share=0.5, beam_stop_radius_px=r), **DETECTOR)[0] for r in (0, 6)
    )
    y, x = torch.meshgrid(torch.arange(61) - CENTER[1], torch.arange(65) - CENTER[0], indexing="ij")
    distance = torch.hypot(x, y)
    assert not stopped[distance <= 5.5].any()
    assert torch.equal(stopped[distance >= 6.5], open_[distance >= 6.5])


def test_counting_with_everything_off_is_poissons_statistics():
    expected = torch.full((50, 40, 40), 3.0)
    counts = count(expected, bare(50), torch.arange(50), seed=1).double()
    assert float(counts.mean()) == pytest.approx(3, abs=5 * (3 / counts.numel()) ** 0.5)
    assert float(counts.var()) == pytest.approx(3, rel=0.03)
    assert count(expected, bare(50), torch.arange(50), seed=2).double().sub(counts).abs().max() > 0


def test_gain_and_readout_noise_add_up_as_they_should():
    conditions = bare(20, gain_counts_per_electron=10, readout_noise_counts=5)
    counts = count(torch.full((20, 64, 64), 100.0), conditions, torch.arange(20), seed=1).double()
    assert float(counts.mean()) == pytest.approx(1000, rel=2e-3)
    assert float(counts.var()) == pytest.approx(10**2 * 100 + 5**2 + 1 / 12, rel=0.02)


def test_counts_saturate_instead_of_wrapping_around():
    conditions = bare(1, readout_noise_counts=50)
    counts = count(torch.tensor([[[0.0] * 50 + [2e5]]]), conditions, torch.arange(1), seed=1)
    assert counts.dtype == torch.uint16
    assert int(counts.int().max()) == 65535
    assert int(counts.int()[0, 0, :50].max()) < 500


def test_hot_and_dead_pixels_stay_where_they_are_for_all_patterns_of_an_instrument():
    index, expected = torch.arange(60), torch.full((60, 50, 50), 20.0)
    faults = {"hot_fraction": (0.01, 0.01), "hot_electrons": (1000, 1000), "dead_fraction": (0.02, 0.02)}
    integrating = {"detector": "integrating", "gain_counts_per_electron": (2, 2), "readout_noise_counts": (3, 3)}
    model = SampleModel(instrument=InstrumentModel(number=2, **faults, **integrating))
    conditions = draw_conditions(index, model, seed=1)
    counts = count(expected, conditions, index, seed=1).int()
    maps = []
    for instrument in (0, 1):
        of_one = counts[conditions.instrument == instrument]
        hot, dead = (of_one > 1000).all(0), (of_one == 0).all(0)
        assert torch.equal(hot, (of_one > 1000).any(0))
        assert int(hot.sum()) == pytest.approx(25, abs=3)  # a place may be drawn twice, or be dead as well
        assert int(dead.sum()) == pytest.approx(50, abs=3)
        maps.append(hot.int() - dead.int())
    assert not torch.equal(*maps)
