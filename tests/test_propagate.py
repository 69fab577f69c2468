import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dpcurate.propagate import METHODS, beam_intensities, chebyshev_weights

torch.set_num_threads(1)  # several workers of pytest share the cores

DOUBLE = torch.float64
laws = settings(max_examples=30, deadline=None)


@laws
@given(coupling=st.floats(1e-5, 2e-3), error=st.floats(-0.02, 0.02), thickness=st.floats(0, 1500))
def test_two_beams_swing_as_the_textbook_says(coupling, error, thickness):
    # sin^2(pi t s_eff) / (s_eff xi)^2, s_eff^2 = s^2 + 1 / xi^2, xi = 1 / (2 coupling): Williams & Carter, chapter 13.
    pair = torch.tensor([[[0, coupling], [coupling, 0]]], dtype=DOUBLE)
    diagonal = torch.tensor([[[0, error]]], dtype=DOUBLE)
    effective = np.hypot(error, 2 * coupling)
    expected = (np.sin(np.pi * thickness * effective) * 2 * coupling / effective) ** 2
    for method in METHODS:
        found = beam_intensities(
            pair, diagonal, thickness_angstrom=torch.tensor([[thickness]], dtype=DOUBLE), method=method
        )
        assert found[0, 0].numpy() == pytest.approx([1 - expected, expected], abs=1e-9)


@laws
@given(seed=st.integers(0, 2**32 - 1), thickness=st.floats(0, 400), lost=st.sampled_from([0.0, 2e-4]))
def test_waves_are_the_exponential_of_the_matrix(seed, thickness, lost):
    rng = torch.Generator().manual_seed(seed)
    pair = torch.randn(2, 5, 5, generator=rng, dtype=torch.complex128) * 2e-3
    pair = pair + pair.mH
    pair.diagonal(dim1=1, dim2=2).zero_()
    diagonal = torch.complex(
        torch.randn(2, 1, 5, generator=rng, dtype=DOUBLE) * 0.02, torch.full((2, 1, 5), lost, dtype=DOUBLE)
    )
    propagator = torch.matrix_exp(2j * np.pi * thickness * (pair + torch.diag_embed(diagonal[:, 0])))
    for method in METHODS:
        found = beam_intensities(
            pair, diagonal, thickness_angstrom=torch.tensor([[thickness]], dtype=DOUBLE), method=method
        )
        assert found[:, 0].numpy() == pytest.approx(propagator[:, :, 0].abs().square().numpy(), abs=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_padding_stays_dark_and_changes_nothing(method):
    pair = torch.tensor([[[0, 1e-3, 2e-3], [1e-3, 0, 5e-4], [2e-3, 5e-4, 0]]], dtype=DOUBLE)
    diagonal = torch.tensor([[[0, 0.01, -0.005], [0, 0.0, 0.02]]], dtype=DOUBLE)
    thickness = torch.tensor([[120.0, 333]], dtype=DOUBLE)
    alone = beam_intensities(pair, diagonal, thickness_angstrom=thickness, method=method)
    padded = beam_intensities(
        torch.nn.functional.pad(pair, (0, 2, 0, 2)),
        torch.nn.functional.pad(diagonal, (0, 2)),
        thickness_angstrom=thickness,
        method=method,
    )
    assert padded[:, :, 3:].abs().max() < 1e-30
    assert torch.allclose(padded[:, :, :3], alone, rtol=0, atol=1e-12)


def test_chebyshev_weights_are_tabulated_bessel_functions():
    # Abramowitz & Stegun, tables 9.1, 9.2 and 9.4.
    weights = chebyshev_weights(torch.tensor([1.0, 5.0, 10.0], dtype=DOUBLE), DOUBLE)
    signs = [1, 1, -1, -1]
    for row, order, value in ((0, 0, 0.7651976866), (0, 1, 0.4400505857), (1, 2, 0.0465651163), (2, 10, 0.2074861066)):
        expected = value * (1 if order == 0 else 2) * signs[order % 4]
        assert float(weights[row, order]) == pytest.approx(expected, abs=1e-9)
