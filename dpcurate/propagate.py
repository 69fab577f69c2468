"""Electron waves through a crystal: exp(2 pi i t A) e_0 for many matrices and thicknesses, in torch.

A is the structure matrix of the Bloch waves in 1/Angstrom, e_0 the incident beam, t the thickness. Chebyshev
polynomials of A, not its eigenvectors, give the waves (Tal-Ezer & Kosloff, J. Chem. Phys. 81 (1984) 3967): T_n(A) e_0
is the same for all thicknesses, needs products of matrices only, and takes all azimuths of a precessed beam at once.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from dpcurate.errors import InputError

METHODS = ("chebyshev", "eigen")
"""Expansion of the propagator in Chebyshev polynomials, or diagonalisation: slower, and the check of the first."""

BLOCK = 32
"""Chebyshev vectors that are held at a time; even. Memory does not grow with the thickness."""

TAIL = {torch.float32: 8.0, torch.float64: 12.0}
"""J_n(x) is below a tenth of the type's resolution from n = x + TAIL (x^(1/3) + 1) on: Ai(2^(1/3) TAIL) bounds it."""

LEAST_RADIUS = 1e-6
"""1/Angstrom. Half-width of the spectrum that is assumed where a beam stands alone."""


def beam_intensities(
    coupling: Tensor, diagonal: Tensor, *, thickness_angstrom: Tensor, method: str = "chebyshev"
) -> Tensor:
    """Intensities of all beams behind the crystal, mean over the azimuths, shape ``(b, t, n)``, real.

    Parameters
    ----------
    coupling
        What the azimuths share of the structure matrices, 1/Angstrom, shape ``(b, n, n)``, with a diagonal of 0. Real
        and symmetric, or complex: Hermitian unless ``diagonal`` is complex.
    diagonal
        The matrices' diagonals for each azimuth, ``(b, azimuth, n)``; their imaginary part is absorption. Row 0 is the
        incident beam. A beam of zeros is decoupled and stays dark: padding.
    thickness_angstrom
        ``(b, t)``, or ``(1, t)`` for all.
    method
        One of `METHODS`; anything else raises InputError.

    Notes
    -----
    Laws: without absorption the beams' sum is 1; both methods agree; thicknesses do not see each other.
    """
    if method not in METHODS:
        raise InputError(f'method "{method}": expected one of {", ".join(METHODS)}.')
    solve = _chebyshev if method == "chebyshev" else _eigen
    return solve(coupling, diagonal, thickness_angstrom)


def _eigen(coupling: Tensor, diagonal: Tensor, thickness: Tensor) -> Tensor:
    """`beam_intensities` by diagonalisation, De Graef, Introduction to Conventional TEM (2003), section 5.7."""
    matrix = coupling[:, None] + torch.diag_embed(diagonal)
    incident = torch.zeros_like(matrix[..., :1])
    incident[..., 0, 0] = 1
    if not diagonal.is_complex():
        value, vector = torch.linalg.eigh(matrix)
        excitation = vector.mH @ incident
    else:
        value, vector = torch.linalg.eig(matrix)
        excitation = torch.linalg.solve(vector, incident.to(vector.dtype))
    wave = torch.exp(2j * math.pi * value[..., None] * thickness[:, None, None, :]) * excitation
    intensity = (vector.to(wave.dtype) @ wave).abs().square().mean(dim=1).mT
    return intensity.to(diagonal.real.dtype)


def _chebyshev(coupling: Tensor, diagonal: Tensor, thickness: Tensor) -> Tensor:
    """`beam_intensities` by Chebyshev polynomials; the phase common to all beams is left out."""
    low, high = spectral_interval(coupling, diagonal)
    radius = max(float((high - low).max()) / 2, LEAST_RADIUS)
    diagonal = (diagonal - ((low + high) / 2)[:, None, None]) / radius
    coupling = coupling.mT / radius
    if diagonal.shape[1] == 1:
        coupling, alone = coupling + torch.diag_embed(diagonal[:, 0]), None
    else:
        alone = diagonal
    b, azimuths, n = diagonal.shape
    weights = chebyshev_weights(thickness.double() * (2 * math.pi * radius), diagonal.real.dtype).to(coupling.dtype)
    waves = [coupling.new_zeros(b, weights.shape[1], azimuths, n) for _ in range(2)]
    vectors = coupling.new_zeros(BLOCK, b, azimuths, n)
    each = vectors.unbind()
    for start in range(0, weights.shape[2], BLOCK):
        count = min(BLOCK, weights.shape[2] - start)
        _extend(each, count, coupling, alone, first=start == 0)
        for parity, wave in enumerate(waves):
            _add(wave, weights[:, :, start + parity : start + count : 2], vectors[parity:count:2])
    even, odd = waves
    total = (even + 1j * odd).abs().square() if even.is_complex() else even.square() + odd.square()
    return total.mean(dim=2)


def _extend(vectors: Sequence[Tensor], count: int, coupling: Tensor, alone: Tensor | None, *, first: bool) -> None:
    """Replace ``count`` vectors T_n e_0, held as rows, by those that follow the last two: T_n+1 = 2 A T_n - T_n-1."""
    for k in range(count):
        if first and k == 0:
            vectors[0][:, :, 0] = 1
            continue
        now, factor = vectors[k - 1], 1 if first and k == 1 else 2
        torch.baddbmm(vectors[k - 2], now, coupling, beta=factor % 2 - 1, alpha=factor, out=vectors[k])
        if alone is not None:
            vectors[k].addcmul_(now, alone, value=factor)


def _add(wave: Tensor, weights: Tensor, terms: Tensor) -> None:
    """Add to waves ``(b, t, azimuth, n)`` the sum of ``terms`` (k, b, azimuth, n) with weights ``(b or 1, t, k)``."""
    if len(weights) == 1:
        wave.add_((weights[0] @ terms.flatten(1)).unflatten(1, terms.shape[1:]).transpose(0, 1))
    else:
        wave.flatten(2).baddbmm_(weights.contiguous(), terms.flatten(2).transpose(0, 1).contiguous())


def spectral_interval(coupling: Tensor, diagonal: Tensor) -> tuple[Tensor, Tensor]:
    """Bounds of the real parts of all eigenvalues, 1/Angstrom, each ``(b,)``: Gershgorin's circles."""
    reach = coupling.abs().sum(dim=-1)[:, None] + (diagonal.imag.abs() if diagonal.is_complex() else 0)
    middle = diagonal.real
    return (middle - reach).amin(dim=(1, 2)), (middle + reach).amax(dim=(1, 2))


def chebyshev_weights(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Real weights w of exp(i x A) = sum of w_n T_n(A), n even, + i times the same sum, n odd; shape ``(*x.shape, n)``.

    w_n is (2 - delta_n0) J_n(x), signed by i^n; x in float64. J_n is the n-th Fourier coefficient of exp(i x cos u)
    (Jacobi and Anger; Abramowitz & Stegun 9.1.44-45): a mean over q even steps of a quarter turn, exact up to
    J_4q-n(x), so that q of n_terms / 2 suffices. As many weights as ``dtype`` can tell from 0.
    """
    largest = float(x.max()) if x.numel() else 0.0
    n_terms = math.ceil(largest + TAIL[dtype] * (largest ** (1 / 3) + 1))
    steps = math.ceil(n_terms / 2) + 1
    angle = (torch.arange(steps, dtype=x.dtype, device=x.device) + 0.5) * (math.pi / 2 / steps)
    order = torch.arange(n_terms, dtype=x.dtype, device=x.device)
    basis = torch.cos(angle[:, None] * order) * (2 / steps)
    basis[:, 0] /= 2
    phase = x[..., None] * torch.cos(angle)
    weights = x.new_empty(*x.shape, n_terms)
    weights[..., 0::2] = torch.cos(phase) @ basis[:, 0::2]
    weights[..., 1::2] = torch.sin(phase) @ basis[:, 1::2]
    return weights.to(dtype)
