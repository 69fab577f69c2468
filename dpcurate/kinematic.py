"""Kinematical spots of many orientations at once, in torch, on a CPU or a GPU: diffsims' physics without diffsims.

Electrons travel along -z: the Ewald sphere, of radius 1 / wavelength, has its centre at +z and touches the origin.
Palatinus 2019 is Palatinus et al., Acta Cryst. B75 (2019) 512, the source of diffsims' shape factors.
"""

import math
from dataclasses import dataclass

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from dpcurate.orientations import to_matrix
from dpcurate.reflections import Reflections, wavelength_angstrom

SPARE_AZIMUTHS = 12
"""Azimuths on half a turn beyond the least number that resolves the fringes of a plate."""

STEPS_AT_ONCE = 8
"""Steps are rounded up to a multiple of it, so that many spots are worked on together."""


@dataclass(frozen=True)
class SpotBatch:
    """Spots of ``b`` patterns, shortest reflection first, padded to the longest; without the direct beam."""

    q: Tensor
    """Positions (q_x, q_y) in 1/Angstrom, float32, shape (b, k, 2); 0 where padded."""
    intensity: Tensor
    """|F|^2 times the shape factor, Angstrom^2, float32, shape (b, k); 0 where padded."""


def kinematic_spots(
    reflections: Reflections,
    orientation: Tensor | ArrayLike,
    *,
    beam_energy_kev: float,
    precession_deg: float,
    max_excitation_error: float,
    thickness_angstrom: Tensor | ArrayLike | None = None,
) -> SpotBatch:
    """Kinematical spots of orientations ``(b, 4)``, lab to crystal, on the device of ``orientation``.

    Parameters
    ----------
    reflections
        Of one phase; Debye-Waller factors are in their structure factors.
    orientation
        Unit quaternions (w, x, y, z); an array means the CPU.
    beam_energy_kev, precession_deg
        Of the beam; half-angle of the precession cone, 0 for none.
    max_excitation_error
        1/Angstrom. A reflection shows that comes so near the Ewald sphere at some azimuth of the precession.
    thickness_angstrom
        Of the crystal, one or ``(b,)``: the shape factor is `plate`. None: `lorentzian` of width
        ``max_excitation_error``, diffsims' default.

    Notes
    -----
    As diffsims 0.7, ``calculate_diffraction2d``, up to one factor for all spots of a precessed pattern (see
    `lorentzian`). Computed in float64. Laws: a symmetric equivalent has the same spots; a pattern turns and is
    mirrored with its orientation (`orientations.turn_pattern`, `orientations.mirror_pattern`).
    """
    quaternions = orientation.cpu().numpy() if isinstance(orientation, Tensor) else orientation
    device = orientation.device if isinstance(orientation, Tensor) else torch.device("cpu")
    matrix = torch.as_tensor(to_matrix(quaternions), device=device)
    g = torch.as_tensor(reflections.g, device=device)
    radius, precession = 1 / wavelength_angstrom(beam_energy_kev), math.radians(precession_deg)
    sphere = {"radius": radius, "precession": precession, "margin": max_excitation_error}
    row, column = _perhaps_within_reach(matrix[:, :, 2] @ g.T, g.norm(dim=1), **sphere).nonzero(as_tuple=True)
    lab = torch.einsum("si,sij->sj", g[column], matrix[row])
    r, z = lab[:, :2].norm(dim=1), lab[:, 2]
    shown = within_reach(r, z, **sphere).nonzero()[:, 0]
    row, column, lab, r = row[shown], column[shown], lab[shown], r[shown]
    s = radius - (radius**2 - r.square()).sqrt() - lab[:, 2]
    if thickness_angstrom is None:
        shape = lorentzian(s, r * precession, width=max_excitation_error)
    else:
        thickness = torch.as_tensor(thickness_angstrom, dtype=torch.float64, device=device).expand(len(matrix))
        shape = plate(s, r * precession, thickness_angstrom=thickness[row])
    strength = torch.as_tensor(abs(reflections.factor) ** 2, device=device)[column]
    return _padded(row, len(matrix), q=lab[:, :2].float(), intensity=(strength * shape).float())


def within_reach(r: Tensor, z: Tensor, *, radius: float, precession: float, margin: float) -> Tensor:
    """Whether points come within ``margin``, along z, of the Ewald sphere at some azimuth, bool, as ``r``.

    ``r`` and ``z`` are a point's distances from the axis of the precession and along it; ``precession`` is in radians.
    Between the extremes of the sphere, sqrt(radius^2 - (r +- radius sin p)^2) below its centre, as diffsims 0.7's
    ``get_intersecting_reflections``; squared, so that no large numbers are subtracted.
    """
    middle = radius * math.cos(precession) * z - (r.square() + z.square() + margin**2) / 2
    return middle.abs() <= margin * (radius * math.cos(precession) - z) + r * (radius * math.sin(precession))


def _perhaps_within_reach(z: Tensor, length: Tensor, *, radius: float, precession: float, margin: float) -> Tensor:
    """False only where `within_reach` is false; quick. ``z`` (b, n) is overwritten, ``length`` (n,) is that of g."""
    centre = radius * math.cos(precession)
    middle = (length.square() + margin**2) / 2 / centre
    most = (margin * (centre + length) + length * (radius * math.sin(precession))) / centre
    return z.sub_(middle).abs_() <= most * (1 + 1e-9)


def lorentzian(s: Tensor, swing: Tensor, *, width: float) -> Tensor:
    """Mean of 1 / (1 + (pi s' / width)^2) over s' = s + swing cos(azimuth): eq. 10 of Palatinus 2019.

    ``s`` is the excitation error of the unprecessed beam, ``swing`` distance from the axis times precession half-angle,
    both in 1/Angstrom. Without precession eq. 6. diffsims 0.7's ``lorentzian_precession`` has 2 / width times as much,
    its ``lorentzian`` has the same.
    """
    s, swing = s * (math.pi / width), swing * (math.pi / width)
    u = 1 + swing.square() - s.square()
    z = torch.hypot(u, 2 * s)
    return ((u + z) / 2).clamp(min=0).sqrt() / z


def plate(s: Tensor, swing: Tensor, *, thickness_angstrom: Tensor) -> Tensor:
    """Shape factor of a plate, the mean of (sin(pi s' t) / (pi s' t))^2 over s' = s + swing cos(azimuth), float32.

    The kinematical rocking curve of a parallel-sided plate, diffsims 0.7's ``sin2c`` of width 5 / t; s' is eq. 8 of
    Palatinus 2019. Shapes ``(n,)``, arguments as of `lorentzian`. Along the azimuth it hardly has frequencies beyond
    2 pi swing t, so that the mean of a few more even steps than that is exact to about 1e-6.
    """
    phase = (math.pi * s * thickness_angstrom).float()
    swing_phase = (math.pi * swing * thickness_angstrom).float()
    # Steps of each spot alone: as many as the widest swing of the batch needs would tie a spot to its batch.
    steps = torch.where(swing_phase > 0, ((swing_phase + SPARE_AZIMUTHS) / STEPS_AT_ONCE).ceil() * STEPS_AT_ONCE, 1)
    shape = torch.zeros_like(phase)
    for n in steps.unique().int().tolist():
        own = (steps == n).nonzero()[:, 0]
        middle, reach = phase[own], swing_phase[own]
        total = torch.zeros_like(middle)
        for azimuth in range(n):
            x = middle + reach * math.cos(math.pi * (azimuth + 0.5) / n)
            x = x.abs().clamp(min=1e-6)  # sin(x) / x is 1 there; torch.sinc takes five times as long on a CPU
            total += (x.sin() / x).square()
        shape[own] = total / n
    return shape


def _padded(row: Tensor, n: int, *, q: Tensor, intensity: Tensor) -> SpotBatch:
    """Spots of ``n`` patterns side by side, from spots one after another in rising order of their pattern ``row``."""
    count = torch.bincount(row, minlength=n)
    slot = torch.arange(len(row), device=row.device) - (count.cumsum(dim=0) - count)[row]
    longest = int(count.max()) if n else 0
    spots = SpotBatch(q=q.new_zeros(n, longest, 2), intensity=q.new_zeros(n, longest))
    spots.q[row, slot] = q
    spots.intensity[row, slot] = intensity
    return spots
