import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dpcurate.bloch import bloch_spots, dynamical_spots, enough_azimuths
from dpcurate.errors import InputError
from dpcurate.orientations import mirror_pattern, multiply, random_uniform, to_matrix, turn_pattern
from dpcurate.phases import phase_from_cell
from dpcurate.propagate import METHODS
from dpcurate.reflections import (
    ELECTRON_REST_KEV,
    cell_volume,
    reciprocal_basis,
    structure_factors,
    wavelength_angstrom,
)
from dpcurate.scattering import scattering_table
from tests.crystals import BY_LAUE_GROUP, CEMENTITE, LINIO2

torch.set_num_threads(1)  # several workers of pytest share the cores

KEV, K_MAX, DOUBLE = 200.0, 0.9, torch.float64
GALLIUM_ARSENIDE = phase_from_cell(
    "GaAs", 216, lattice=(5.653, 5.653, 5.653, 90, 90, 90), sites=[("Ga", 0, 0, 0), ("As", 0.25, 0.25, 0.25)]
)
"""Without an inversion centre."""

TABLES = {
    name: scattering_table(phase, beam_energy_kev=KEV, k_max_inv_angstrom=K_MAX, u_iso_angstrom2=0.005, dtype=DOUBLE)
    for name, phase in {**BY_LAUE_GROUP, "GaAs": GALLIUM_ARSENIDE}.items()
}
laws = settings(max_examples=15, deadline=None)
seeds = st.integers(0, 2**32 - 1)
names = st.sampled_from(list(BY_LAUE_GROUP))
cones = st.sampled_from([0.0, 0.7])


def spots_of(name, g, *, thickness=(80.0, 250.0), precession=0.0, **more):
    more = {"n_azimuths": 12, **more}
    return dynamical_spots(
        TABLES[name], np.atleast_2d(g), thickness_angstrom=list(thickness), precession_deg=precession, **more
    )


def differ(a, b, *, turned_by=((1, 0), (0, 1))):
    """Sum of the differences of intensities of spots at the same place, after moving those of ``a`` by a matrix."""
    total = float((a.direct - b.direct).abs().sum())
    for i in range(len(a.q)):
        q = a.q[i] @ torch.tensor(turned_by, dtype=a.q.dtype).T
        same = ((q[:, None] - b.q[i][None]).norm(dim=-1) < 1e-6).to(a.q.dtype)
        # Padding sits at q = 0 and holds nothing; all other places differ.
        total += float((a.intensity[i] @ same - b.intensity[i]).abs().sum())
        total += float((b.intensity[i] @ same.T - a.intensity[i]).abs().sum())
    return total


def test_beam_intensities_are_those_of_abtem():
    given = json.loads((Path(__file__).parent / "data" / "bloch_beams.json").read_text(encoding="utf-8"))
    for pattern in given["patterns"]:
        spots = bloch_spots(
            LINIO2,
            np.array([pattern["quaternion"]]),
            thickness_angstrom=[pattern["thickness_angstrom"]],
            beam_energy_kev=given["energy_ev"] / 1e3,
            k_max_inv_angstrom=given["g_max_inv_angstrom"],
            max_excitation_error=given["sg_max_inv_angstrom"],
            u_iso_angstrom2=given["thermal_sigma_angstrom"] ** 2,
            dtype=DOUBLE,
        )
        hkl, theirs = np.array(pattern["hkl"]), np.array(pattern["intensity"])
        g = hkl @ reciprocal_basis(LINIO2) @ to_matrix(pattern["quaternion"])
        place = np.linalg.norm(spots.q[0].numpy()[None] - g[:, None, :2], axis=2)
        ours = np.where(place < 1e-6, spots.intensity[0, 0].numpy(), 0).sum(axis=1)
        ours[(hkl == 0).all(axis=1)] = spots.direct[0, 0]
        strong = theirs > 1e-3
        assert ours[strong] == pytest.approx(theirs[strong], rel=1e-3)
        amplitude = ours / (1 - g[:, 2] * wavelength_angstrom(KEV))
        assert amplitude[strong] == pytest.approx(theirs[strong], rel=1e-4)
        assert amplitude == pytest.approx(theirs, abs=1e-5)


@laws
@given(name=st.sampled_from(list(TABLES)), seed=seeds, precession=cones)
def test_all_of_the_incident_beam_comes_out(name, seed, precession):
    g = random_uniform(3, seed=seed)
    spots = spots_of(name, g, precession=precession)
    assert (spots.intensity.sum(dim=2) + spots.direct).numpy() == pytest.approx(1, abs=1e-9)
    assert spots.intensity.min() >= 0


def test_all_of_the_incident_beam_comes_out_in_single_precision():
    for phase in (LINIO2, GALLIUM_ARSENIDE):
        spots = bloch_spots(
            phase,
            random_uniform(20, seed=3),
            thickness_angstrom=[50, 1000],
            beam_energy_kev=KEV,
            k_max_inv_angstrom=K_MAX,
        )
        assert spots.q.dtype == spots.intensity.dtype == torch.float32
        assert (spots.intensity.sum(dim=2) + spots.direct).numpy() == pytest.approx(1, abs=1e-5)


@laws
@given(
    name=st.sampled_from(list(TABLES)),
    seed=seeds,
    precession=cones,
    absorption=st.sampled_from([0.0, 0.1]),
    data=st.data(),
)
def test_the_expansion_agrees_with_diagonalisation(name, seed, precession, absorption, data):
    thickness = data.draw(st.lists(st.floats(0.1, 700), min_size=1, max_size=3))
    both = [
        spots_of(
            name,
            random_uniform(2, seed=seed),
            thickness=thickness,
            precession=precession,
            absorption=absorption,
            n_azimuths=3,
            method=method,
        )
        for method in METHODS
    ]
    assert differ(*both) < 1e-9


@laws
@given(name=names, seed=seeds, precession=cones, data=st.data())
def test_symmetric_equivalents_have_the_same_spots(name, seed, precession, data):
    g = random_uniform(2, seed=seed)
    symmetry = BY_LAUE_GROUP[name].proper_rotations()
    s = symmetry[data.draw(st.integers(0, len(symmetry) - 1))]
    assert (
        differ(spots_of(name, g, precession=precession), spots_of(name, multiply(s, g), precession=precession)) < 1e-9
    )


def test_symmetry_on_the_wrong_side_breaks_the_law():
    g = random_uniform(2, seed=0)
    s = LINIO2.proper_rotations()[-1]
    assert differ(spots_of("-3m", g), spots_of("-3m", multiply(g, s))) > 1e-3


@laws
@given(name=st.sampled_from(list(TABLES)), seed=seeds, precession=cones, steps=st.integers(0, 11))
def test_a_pattern_turns_with_its_orientation(name, seed, precession, steps):
    g, angle = random_uniform(2, seed=seed), 30.0 * steps
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    turned = spots_of(name, turn_pattern(g, angle), precession=precession)
    assert differ(spots_of(name, g, precession=precession), turned, turned_by=((cos, -sin), (sin, cos))) < 1e-9


@laws
@given(name=names, seed=seeds, precession=cones)
def test_a_pattern_is_mirrored_with_its_orientation(name, seed, precession):
    g = random_uniform(2, seed=seed)
    mirrored = spots_of(name, mirror_pattern(g), precession=precession)
    assert differ(spots_of(name, g, precession=precession), mirrored, turned_by=((1, 0), (0, -1))) < 1e-9


def test_without_an_inversion_centre_a_mirrored_pattern_is_not_that_of_the_mirrored_orientation():
    g = random_uniform(5, seed=1)
    mirrored = spots_of("GaAs", mirror_pattern(g))
    assert differ(spots_of("GaAs", g), mirrored, turned_by=((1, 0), (0, -1))) > 1e-5


@pytest.mark.parametrize("name", ["-3m", "2/m", "GaAs"])
def test_a_very_thin_crystal_scatters_kinematically(name):
    phase, thickness = {**BY_LAUE_GROUP, "GaAs": GALLIUM_ARSENIDE}[name], 0.01
    g = random_uniform(1, seed=5)[0]
    spots = spots_of(name, g, thickness=[thickness])
    steps = np.stack(np.meshgrid(*[np.arange(-14, 15)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    lab = steps @ reciprocal_basis(phase) @ to_matrix(g)
    place = np.linalg.norm(spots.q[0].numpy()[:, None] - lab[None, :, :2], axis=2) + 10 * np.abs(lab[:, 2]) // 1
    hkl = steps[place.argmin(axis=1)]
    gamma = 1 + KEV / ELECTRON_REST_KEV
    u = gamma * np.abs(structure_factors(phase, hkl, u_iso_angstrom2=0.005)) / (np.pi * cell_volume(phase))
    expected = (np.pi * wavelength_angstrom(KEV) * thickness * u) ** 2
    strong = expected > 0.01 * expected.max()
    assert spots.intensity[0, 0].numpy()[strong] == pytest.approx(expected[strong], rel=5e-3)


def test_thicknesses_do_not_see_each_other():
    g, thickness = random_uniform(4, seed=2), torch.tensor([[30.0, 500.0], [60, 10], [100, 200], [400, 300]])
    for precession in (0.0, 0.7):
        shared = spots_of("mmm", g, thickness=[30.0, 500.0], precession=precession)
        alone = [spots_of("mmm", g, thickness=[t], precession=precession) for t in (30.0, 500.0)]
        each = dynamical_spots(TABLES["mmm"], g, thickness_angstrom=thickness, precession_deg=precession, n_azimuths=12)
        for k in range(2):
            assert torch.allclose(shared.intensity[:, k], alone[k].intensity[:, 0], rtol=0, atol=1e-12)
            assert torch.allclose(each.intensity[0, k], shared.intensity[0, k], rtol=0, atol=1e-12)
        third = spots_of("mmm", g[2], thickness=[100.0, 200.0], precession=precession)
        n = third.q.shape[1]
        assert torch.allclose(each.intensity[2, :, :n], third.intensity[0], rtol=0, atol=1e-12)
        assert float(each.intensity[2, :, n:].sum()) == 0


@pytest.mark.parametrize("name", ["-3m", "mmm", "GaAs"])
def test_a_pattern_does_not_depend_on_its_batch(name, monkeypatch):
    g = random_uniform(30, seed=8)
    whole = spots_of(name, g, precession=0.7)
    monkeypatch.setattr("dpcurate.bloch.CHUNK_BYTES", {"cpu": 1})
    monkeypatch.setattr("dpcurate.bloch.SELECTION_BYTES", 1)
    assert torch.allclose(spots_of(name, g, precession=0.7).intensity, whole.intensity, rtol=0, atol=1e-12)
    last = spots_of(name, g[-1], precession=0.7)
    assert torch.allclose(last.q[0], whole.q[-1, : last.q.shape[1]], rtol=0, atol=1e-12)
    assert torch.allclose(last.intensity[0], whole.intensity[-1, :, : last.q.shape[1]], rtol=0, atol=1e-12)


def test_no_orientations_give_no_spots():
    spots = spots_of("-3m", np.zeros((0, 4)))
    assert spots.q.shape == (0, 0, 2)
    assert spots.direct.shape == (0, 2)


def test_enough_azimuths_are_enough_and_eight_are_not():
    g, thickness = random_uniform(5, seed=4), 400.0
    n = enough_azimuths(K_MAX, precession_deg=0.7, thickness_angstrom=thickness)
    options = {"thickness": [thickness], "precession": 0.7}
    fine = spots_of("-3m", g, n_azimuths=3 * n, **options)
    assert differ(spots_of("-3m", g, n_azimuths=None, **options), fine) < 1e-3
    assert differ(spots_of("-3m", g, n_azimuths=8, **options), fine) > 0.1


def indices(name, phase):
    return np.rint(TABLES[name].g.numpy() @ np.linalg.inv(reciprocal_basis(phase))).astype(int)


@pytest.mark.parametrize(
    ("tilt_x", "tilt_y", "thickness", "least", "most"),
    [
        (0.006, 0.01, 300.0, 1e-3, 1),  # 210 and -200, both allowed, lead to 010
        (0.006, 0.01, 0.01, 0, 1e-6),  # a thin crystal scatters once
        (0.01, 0, 300.0, 0, 1e-12),  # a beam in the plane of b and c: detours cancel in pairs
    ],
)
def test_multiple_scattering_lights_forbidden_spots_off_the_lines_of_gjonnes_and_moodie(
    tilt_x, tilt_y, thickness, least, most
):
    # Pnma along c: 0k0 with k odd is forbidden by the screw axis along b and the glide plane.
    g = np.array([np.sqrt(1 - tilt_x**2 - tilt_y**2), tilt_x, tilt_y, 0])
    hkl = indices("mmm", CEMENTITE)
    odd = (hkl[:, [0, 2]] == 0).all(axis=1) & (hkl[:, 1] % 2 == 1)
    place = (TABLES["mmm"].g.numpy() @ to_matrix(g))[odd, :2]
    spots = spots_of("mmm", g, thickness=[thickness])
    forbidden = (np.linalg.norm(spots.q[0].numpy()[:, None] - place, axis=2) < 1e-6).any(axis=1)
    assert forbidden.sum() > 3
    assert least <= float(spots.intensity[0, 0][forbidden].max() / spots.intensity.max()) <= most


def test_the_choice_of_origin_does_not_matter_and_a_centre_makes_the_couplings_real():
    atoms = tuple(a.model_copy(update={"x": a.x + 0.13, "y": a.y - 0.29, "z": a.z + 0.41}) for a in LINIO2.atoms)
    moved = LINIO2.model_copy(update={"atoms": atoms})
    options = {"thickness_angstrom": [300], "beam_energy_kev": KEV, "k_max_inv_angstrom": K_MAX, "dtype": DOUBLE}
    g = random_uniform(3, seed=6)
    assert differ(bloch_spots(LINIO2, g, **options), bloch_spots(moved, g, **options)) < 1e-9
    table = scattering_table(moved, beam_energy_kev=KEV, k_max_inv_angstrom=K_MAX)
    assert not table.coupling.is_complex()
    assert TABLES["GaAs"].coupling.is_complex()


def test_absorption_takes_from_the_total_what_the_mean_potential_says():
    table, absorption, thickness = TABLES["-3m"], 0.1, 0.1
    spots = spots_of("-3m", random_uniform(3, seed=7), thickness=[thickness, 300.0], absorption=absorption)
    total = (spots.intensity.sum(dim=2) + spots.direct).numpy()
    lost = 4 * np.pi * absorption * table.mean * thickness
    assert 1 - total[:, 0] == pytest.approx(lost, rel=0.01)
    assert (total[:, 1] < 0.9).all()


def test_a_cell_too_large_is_refused_with_its_number_of_beams():
    giant = LINIO2.model_copy(update={"lattice": (90.0, 90.0, 90.0, 90.0, 90.0, 90.0)})
    with pytest.raises(InputError, match=r"about \d+ beams within 1\.3 1/Å, which take .* GiB; at most 2000"):
        scattering_table(giant, beam_energy_kev=KEV, k_max_inv_angstrom=1.3)
    large = LINIO2.model_copy(update={"lattice": (14.0, 14.0, 14.0, 90.0, 90.0, 90.0), "atoms": LINIO2.atoms[:1]})
    with pytest.raises(InputError, match="Lower k_max or the largest excitation error"):
        bloch_spots(
            large,
            random_uniform(1, seed=0),
            thickness_angstrom=[100],
            beam_energy_kev=KEV,
            k_max_inv_angstrom=1.3,
            max_excitation_error=0.2,
        )


def test_an_unknown_method_is_refused():
    with pytest.raises(InputError, match='method "pade": expected one of chebyshev, eigen'):
        spots_of("-3m", random_uniform(1, seed=0), method="pade")
