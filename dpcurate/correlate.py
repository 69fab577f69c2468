"""Zero-mean, unit-norm correlation of polar patterns with templates over all in-plane angles, in torch.

A template is a sum of Gaussian spots, whose azimuthal harmonics are known in closed form, so none is ever drawn. For
each harmonic one matrix product over the radius compares all templates with all patterns; the same four real products
serve the template and its mirror image. A second product, over the harmonics, gives the correlation at every in-plane
angle.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

BLOCK = {"cpu": (16, 128), "cuda": (256, 4096)}
"""Patterns and templates that are compared at a time: on a CPU so that their correlations stay in its caches."""

PLACE_BITS = 127
"""Bits of a packed correlation that hold its in-plane angle and, in the last, the angle's sign."""


@dataclass(frozen=True)
class Frame:
    """What patterns and templates share: rings, their weight, the width of a spot."""

    k_inv_angstrom: Tensor
    """Radius of each ring, 1/Angstrom, shape (n_radius,)."""
    weight: Tensor
    """Factor of each ring on patterns and templates, float32, shape (n_radius,)."""
    spot_sigma_inv_angstrom: float
    """Standard deviation of a spot in a polar pattern, 1/Angstrom."""
    n_harmonics: int
    """Azimuthal harmonics 0 to n_harmonics - 1 take part."""


def ring_weight(k_inv_angstrom: Tensor, *, power: float) -> Tensor:
    """Weights k^power with maximum 1, float32; 0.5 gives each detector pixel the same share."""
    return (k_inv_angstrom / k_inv_angstrom.max()).pow(power).float()


def template_harmonics(q: Tensor, amplitude: Tensor, frame: Frame) -> Tensor:
    """Harmonics of templates of zero mean and unit norm, float32, shape ``(m, 2 n_radius, n)``: real, then imaginary.

    Parameters
    ----------
    q
        Spot positions (q_x, q_y), 1/Angstrom, shape (n, k, 2).
    amplitude
        Height of each spot in a prepared pattern, shape (n, k); 0 is padding.
    frame
        Rings, their weights and the width of a spot.

    Notes
    -----
    A Gaussian spot at (r, a) has the harmonics exp(-(k - r)^2 / 2 s^2) s/r exp(-i m a) exp(-(m s / r)^2 / 2), up to one
    factor: the Fourier series of a Gaussian of width s/r along its ring. Templates are unit vectors of the weighted
    polar picture: |H_0|^2 + 2 sum |H_m|^2 = 1.
    """
    k, sigma = frame.k_inv_angstrom.to(q.device), frame.spot_sigma_inv_angstrom
    r = q.norm(dim=-1)
    width = sigma / r.clamp(min=sigma)
    radial = torch.exp(-((k - r[..., None]) ** 2) / (2 * sigma**2)) * frame.weight.to(q.device)
    radial = (radial * (amplitude * width)[..., None]).float()
    m = torch.arange(frame.n_harmonics, device=q.device)
    phase = m * torch.atan2(q[..., 1], q[..., 0])[..., None]
    damping = torch.exp(-((m * width[..., None]) ** 2) / 2)
    harmonic = torch.stack([(damping * phase.cos()).float(), (-damping * phase.sin()).float()], dim=-1)
    h = torch.einsum("nkr,nkmc->mcrn", radial, harmonic)
    h[0] -= h[0].mean(dim=1, keepdim=True)
    norm = (2 * h.square().sum(dim=(0, 1, 2)) - h[0].square().sum(dim=(0, 1))).sqrt()
    return (h / torch.where(norm > 0, norm, 1)).flatten(1, 2)


def radial_basis(templates: Tensor, *, lost: float) -> Tensor:
    """Orthonormal functions of the radius in which templates ``(m, 2 n_radius, n)`` can be written, ``(r, n_radius)``.

    The fewest that leave out a share of at most ``lost`` of the templates' squares. Spots lie on the few radii that a
    lattice allows, so high symmetry needs few.
    """
    m, double, n = templates.shape
    h = templates.view(m, 2, double // 2, n)
    each = torch.einsum("mcrn,mcsn->mrs", h, h).double()
    each[1:] *= 2
    value, vector = torch.linalg.eigh(each.sum(dim=0))
    share = value.clamp(min=0).cumsum(dim=0) / value.sum().clamp(min=1e-30)
    return vector[:, share > lost].T.float().contiguous()


def in_basis(templates: Tensor, basis: Tensor) -> Tensor:
    """Templates ``(m, 2 n_radius, n)`` written in a `radial_basis` ``(r, n_radius)``, shape ``(m, 2 r, n)``."""
    m, double, n = templates.shape
    return torch.matmul(basis, templates.view(m, 2, double // 2, n)).view(m, -1, n)


def pattern_harmonics(prepared: Tensor, n_harmonics: int) -> Tensor:
    """Harmonics of prepared polar patterns ``(b, n_radius, n_azimuth)``, shape ``(m, n_radius, 2, b)``.

    Scaled so that the product with a template's harmonics, twice for m > 0, is the correlation of unit vectors.
    """
    n = prepared.shape[-1]
    f = torch.view_as_real(torch.fft.rfft(prepared, dim=-1)[..., :n_harmonics]) / math.sqrt(n)
    return f.permute(2, 1, 3, 0).contiguous()


def search(
    templates: Tensor, basis: Tensor, harmonics: Tensor, *, n_angles: int, n_keep: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Best templates of each pattern: score, index, angle, each ``(b, n_keep)``, best first.

    Parameters
    ----------
    templates
        From `in_basis`, shape (m, 2 r, n).
    basis
        From `radial_basis`, shape (r, n_radius).
    harmonics
        From `pattern_harmonics`, shape (m, n_radius, 2, b).
    n_angles
        In-plane angles, even, at most 126; 2 m or more, or maxima are missed.
    n_keep
        How many templates to keep; all, where there are fewer.

    Notes
    -----
    An index of n or more is the mirror image y -> -y of template ``index - n``. The angle is in steps of 360 / n_angles
    degrees, from x towards y. Each template, mirrored or not, counts once, at its best angle. Memory is bounded
    whatever n and b, but for the scores, 8 n b bytes.
    """
    n, b = templates.shape[2], harmonics.shape[3]
    m, rings = harmonics.shape[:2]
    written = torch.matmul(basis, harmonics.reshape(m, rings, 2 * b)).view(m, -1, 2, b)
    device = templates.device
    wide, high = BLOCK[device.type]
    packed = torch.empty(2, b, n, dtype=torch.int32, device=device)
    waves = half_waves(templates.shape[0], n_angles).to(device)
    for column in range(0, b, wide):
        sides = _sides(written[..., column : column + wide])
        for row in range(0, n, high):
            block = packed[:, column : column + wide, row : row + high]
            block.copy_(_best_angles(templates[..., row : row + high], sides, waves))
    best, index = packed.transpose(0, 1).reshape(b, 2 * n).topk(min(n_keep, 2 * n), dim=1)
    place = best & PLACE_BITS
    angle = torch.where((place & 1) > 0, n_angles - (place >> 1), place >> 1) % n_angles
    return (best & ~PLACE_BITS).view(torch.float32), index, angle


def half_waves(n_harmonics: int, n_angles: int) -> Tensor:
    """Cosines and sines of m times the angles from 0 to 180 degrees, twice for m > 0, ``(2, n_angles / 2 + 1, m)``."""
    m = torch.arange(n_harmonics)
    phase = m * (torch.arange(n_angles // 2 + 1, dtype=torch.float64)[:, None] * (2 * math.pi / n_angles))
    return (torch.stack([phase.cos(), phase.sin()]) * torch.where(m > 0, 2.0, 1.0)).float()


def _sides(harmonics: Tensor) -> Tensor:
    """What templates c + id are multiplied with, ``(m, 4 b, 2 r)``: real and imaginary part, then the mirrored.

    With pattern harmonics a + ib: P conj(T) = (ac + bd) + i(bc - ad), and for the mirror image, whose harmonics are
    conj(T), P T = (ac - bd) + i(bc + ad).
    """
    a, b = harmonics.permute(2, 0, 3, 1)
    return torch.cat([torch.cat(pair, dim=2) for pair in ((a, b), (b, -a), (a, -b), (b, a))], dim=1)


def _best_angles(templates: Tensor, sides: Tensor, waves: Tensor) -> Tensor:
    """Best correlation of templates (m, 2 r, n) and their mirror images with patterns, ``(2, b, n)`` int32.

    The correlation at +-angle is A -+ B, A a sum of cosines of the real parts and B one of sines of the imaginary
    parts; the larger is A + |B|. The bits of positive float32 order as those of integers, so angle and sign go into
    the last seven: one pass finds maximum and place, at the cost of 2^-17 of the score.
    """
    m, _, n = templates.shape
    product = torch.matmul(sides, templates).view(m, 2, 2, -1)
    step = (torch.arange(waves.shape[1], dtype=torch.int32, device=templates.device) * 2 + 1)[:, None]
    best = []
    for mirror in (0, 1):
        even, odd = (torch.mm(waves[part], product[:, mirror, part]) for part in (0, 1))
        negative = odd.view(torch.int32) >> 31  # -1, else 0
        total = even.add_(odd.abs_()).view(torch.int32).bitwise_and_(~PLACE_BITS)
        best.append(total.add_(step).add_(negative).amax(dim=0))
    return torch.stack(best).view(2, -1, n)
