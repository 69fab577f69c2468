"""Dynamical spots of many orientations at once, by Bloch waves, in torch, on a CPU or a GPU.

Electrons travel along -z: the Ewald sphere has its centre at +z. The crystal is a plate whose normal n is the mean
beam; a precessed beam is an incoherent mean over azimuths. Intensities are shares of the current that enters, so that
the beams sum to 1: abTEM's |psi_g|^2 times (K + g) . n / K . n, less than 1e-3 apart at 200 keV.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from dpcurate.orientations import to_matrix
from dpcurate.propagate import BLOCK, beam_intensities
from dpcurate.scattering import ScatteringTable, refuse_too_many, scattering_table
from dpcurate.schema import PhaseRecord

CHUNK_BYTES = {"cpu": 2**22, "cuda": 2**28}
"""Memory of the patterns computed together: an eighth of it, or 16 times as much, halves the speed (EPYC, H100)."""

SPARE_AZIMUTHS = 12
"""Azimuths beyond the least number that resolves the fringes."""

PLACE_BYTES = 8
"""Of an index."""

SELECTION_BYTES = 2**26
"""Memory of the search for excited reflections."""


@dataclass(frozen=True)
class DynamicalSpots:
    """Spots of ``b`` patterns at ``t`` thicknesses, padded to the longest; the direct beam apart."""

    q: Tensor
    """Positions (q_x, q_y) in 1/Angstrom, shape (b, k, 2); 0 where padded."""
    intensity: Tensor
    """Shares of the incident beam, shape (b, t, k); 0 where padded."""
    direct: Tensor
    """Share that stays in the direct beam, shape (b, t)."""


def bloch_spots(
    phase: PhaseRecord,
    orientation: Tensor | ArrayLike,
    *,
    thickness_angstrom: Tensor | ArrayLike,
    beam_energy_kev: float,
    k_max_inv_angstrom: float,
    precession_deg: float = 0.0,
    max_excitation_error: float = 0.04,
    n_azimuths: int | None = None,
    absorption: float = 0.0,
    u_iso_angstrom2: float | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    method: str = "chebyshev",
) -> DynamicalSpots:
    """Dynamical spots of one phase: `scattering_table` and `dynamical_spots` in one call, with their arguments."""
    table = scattering_table(
        phase,
        beam_energy_kev=beam_energy_kev,
        k_max_inv_angstrom=k_max_inv_angstrom,
        u_iso_angstrom2=u_iso_angstrom2,
        dtype=dtype,
        device=device,
    )
    return dynamical_spots(
        table,
        orientation,
        thickness_angstrom=thickness_angstrom,
        precession_deg=precession_deg,
        max_excitation_error=max_excitation_error,
        n_azimuths=n_azimuths,
        absorption=absorption,
        method=method,
    )


def dynamical_spots(
    table: ScatteringTable,
    orientation: Tensor | ArrayLike,
    *,
    thickness_angstrom: Tensor | ArrayLike,
    precession_deg: float = 0.0,
    max_excitation_error: float = 0.04,
    n_azimuths: int | None = None,
    absorption: float = 0.0,
    method: str = "chebyshev",
) -> DynamicalSpots:
    """Dynamical spots of orientations ``(b, 4)``, lab to crystal, in the table's type and on its device.

    Parameters
    ----------
    table
        From `scattering_table`.
    orientation
        Unit quaternions (w, x, y, z).
    thickness_angstrom
        Of the plate, ``(t,)`` for all patterns or ``(b, t)``.
    precession_deg
        Half-angle of the precession cone, 0 for none.
    max_excitation_error
        1/Angstrom. A reflection is a beam that comes so near the Ewald sphere at some azimuth.
    n_azimuths
        Even steps of the precession. None: `enough_azimuths` for the thickest. Thick crystals need many: of LiNiO2 at
        0.8 degrees, 600 Angstrom, 16 azimuths put a third of the spots' intensity wrong.
    absorption
        Imaginary part of every coefficient of the potential as a share of its real part, U_0 included; 0 for elastic
        scattering only. An approximation: the true ratio depends on g and on the element, and is near 0.1 or below.
    method
        See `propagate.beam_intensities`.

    Notes
    -----
    Laws: without absorption the beams sum to 1; a pattern turns with its orientation, by whole azimuth steps; if the
    crystal has an inversion centre, a symmetric equivalent has the same spots, and a pattern is mirrored with its
    orientation. Raises InputError when a pattern has more beams than `scattering.MOST_BEAMS`.
    """
    device, real = table.g.device, table.coupling.real.dtype
    quaternions = orientation.cpu().numpy() if isinstance(orientation, Tensor) else orientation
    matrix = torch.as_tensor(to_matrix(quaternions), device=device).reshape(-1, 3, 3)
    thickness = torch.as_tensor(thickness_angstrom, dtype=torch.float64, device=device)
    thickness = thickness if thickness.ndim == 2 else thickness.reshape(1, -1)
    if n_azimuths is None:
        thickest = float(thickness.max()) if thickness.numel() else 0.0
        k_max = table.k_max_inv_angstrom
        n_azimuths = enough_azimuths(k_max, precession_deg=precession_deg, thickness_angstrom=thickest)
    tilt = tilts(precession_deg, n_azimuths).to(device)
    column, count = excited(table, matrix[:, :, 2], tilt=float(tilt[0].norm()), margin=max_excitation_error)
    start, longest = count.cumsum(dim=0) - count, int(count.max()) if len(count) else 1
    refuse_too_many(table.name, longest, k_max_inv_angstrom=table.k_max_inv_angstrom)
    q = torch.zeros(len(matrix), longest, 2, dtype=real, device=device)
    intensity = torch.zeros(len(matrix), thickness.shape[1], longest, dtype=real, device=device)
    per_beam = len(tilt) * (BLOCK + 2 * thickness.shape[1] + 8)
    for row, n in _chunks(count, per_beam=per_beam, number_bytes=table.coupling.element_size()):
        slot = torch.arange(n, device=device)
        is_beam = slot < count[row, None]
        beam = column[torch.where(is_beam, start[row, None] + slot, 0)]
        lab = table.g[beam] @ matrix[row]
        matrices = structure_matrices(table, beam, lab, is_beam=is_beam, tilt=tilt, absorption=absorption)
        of_row = thickness if len(thickness) == 1 else thickness[row]
        intensity[row, :, :n] = beam_intensities(*matrices, thickness_angstrom=of_row, method=method)
        q[row, :n] = (lab[:, :, :2] * is_beam[:, :, None]).to(real)
    return DynamicalSpots(q=q[:, 1:], intensity=intensity[:, :, 1:], direct=intensity[:, :, 0])


def enough_azimuths(k_max_inv_angstrom: float, *, precession_deg: float, thickness_angstrom: float) -> int:
    """Azimuths that resolve the fringes of a plate: the highest frequency of exp(2 pi i t s(azimuth)), and a few more.

    Measured with LiNiO2, 0.8 degrees, up to 1.35 1/Angstrom, against 128 azimuths, as a share of all spots' intensity,
    mean of 48 orientations: 64 azimuths are off by 2e-6 at 300 Angstrom and by 4e-3 at 600; 32 by 4e-3 at 300.
    """
    swing = k_max_inv_angstrom * math.tan(math.radians(precession_deg))
    return math.ceil(2 * math.pi * swing * thickness_angstrom) + SPARE_AZIMUTHS


def tilts(precession_deg: float, n_azimuths: int) -> Tensor:
    """Tangents (x, y) of the beam's tilts, float64, shape ``(azimuth, 2)``: one, zero, without precession."""
    if precession_deg == 0:
        return torch.zeros(1, 2, dtype=torch.float64)
    azimuth = torch.arange(n_azimuths, dtype=torch.float64) * (2 * math.pi / n_azimuths)
    return math.tan(math.radians(precession_deg)) * torch.stack([azimuth.cos(), azimuth.sin()], dim=1)


def excited(table: ScatteringTable, normal: Tensor, *, tilt: float, margin: float) -> tuple[Tensor, Tensor]:
    """Beams of patterns one after another, 000 first, as rows of ``table.g``, and how many each pattern has, ``(b,)``.

    Those whose excitation error is at most ``margin`` at some azimuth. ``normal`` (b, 3) is the lab's z in the crystal.
    """
    length = table.g.norm(dim=1)
    middle = length.square() * (table.wavelength / 2 * math.hypot(1, tilt))
    step = max(1, SELECTION_BYTES // (4 * max(1, table.g.shape[0]) * table.g.element_size()))
    columns, counts = [], []
    for some in normal.split(step):
        z = some @ table.g.T
        reach = margin + tilt * (length.square() - z.square()).clamp(min=0).sqrt() if tilt else margin
        near = (z - middle).abs() <= reach
        near[:, 0] = True
        columns.append(near.nonzero()[:, 1])
        counts.append(near.sum(dim=1))
    return torch.cat(columns), torch.cat(counts)


def structure_matrices(
    table: ScatteringTable, beam: Tensor, lab: Tensor, *, is_beam: Tensor, tilt: Tensor, absorption: float
) -> tuple[Tensor, Tensor]:
    """Structure matrices in 1/Angstrom: off-diagonal parts (b, n, n) and, for each azimuth, diagonals (b, azimuth, n).

    Of the symmetric form M A M, M = B^(-1/2), B = (K + g) . n / K . n, K the tilted beam and n the plate's normal. The
    diagonal of A is (K^2 - |K + g|^2) / (2 K . n) = g_z + tilt . g - g^2 / (2 K . n), the rest U_g-h / (2 K . n).
    ``beam`` (b, n) are rows of the table, ``lab`` (b, n, 3) their vectors, float64; padding gives zeros.
    """
    secant = math.hypot(1.0, float(tilt[0].norm()))
    metric = is_beam / (1 - lab[:, :, 2] * (table.wavelength * secant))
    place = table.place[beam]
    coupling = table.coupling[place[:, :, None] - place[:, None, :] + table.zero]
    root = metric.sqrt().to(coupling.real.dtype)
    coupling = coupling * (root * secant)[:, :, None] * root[:, None, :]
    on_axis = lab[:, :, 2] - lab.square().sum(dim=2) * (table.wavelength / 2 * secant)
    error = on_axis[:, None] + tilt @ lab[:, :, :2].mT
    diagonal = (error * metric[:, None]).to(root.dtype)
    if absorption:
        lost = (metric * (absorption * table.mean * secant)).to(root.dtype)
        return coupling * (1 + 1j * absorption), torch.complex(diagonal, lost[:, None].expand_as(diagonal))
    return coupling, diagonal


def _chunks(count: Tensor, *, per_beam: int, number_bytes: int) -> Iterator[tuple[Tensor, int]]:
    """Patterns to compute together and the most beams of any: with most beams first, so that little is padding."""
    ordered, row = count.sort(descending=True, stable=True)
    most, first = ordered.tolist(), 0
    while first < len(most):
        n = most[first]
        memory = n * per_beam * number_bytes + n * n * (4 * number_bytes + PLACE_BYTES)
        size = max(1, CHUNK_BYTES[count.device.type] // memory)
        yield row[first : first + size], n
        first += size
