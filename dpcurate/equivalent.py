"""Pyxem's scores by our own means: all in-plane angles at once by Fourier transforms, templates by matrix products.

pyxem 0.21 adds up the polar pattern P(r, t) at the bins of a template's spots, turned by each azimuth s, and of its
mirror image: sum of P(r, s + t) T(r, t), and of P(r, s - t) T(r, t). Over the azimuth these are a correlation and a
convolution, so with Fourier coefficients they are P conj(T) and P T, summed over the radius.
"""

from typing import Any

import dask.array as da
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dpcurate.matching import PolarTemplates

TEMPLATES_AT_ONCE, PATTERNS_AT_ONCE = 128, 32
"""Compared at a time; 24 MB of correlations at 360 azimuths."""


def pyxem_rows(polar: NDArray[np.float32], templates: PolarTemplates) -> NDArray[np.float64]:
    """What pyxem's ``get_orientation`` gives for prepared patterns ``(..., radius, azimuth)``, ``(..., n, 4)``.

    Of each template its number, best correlation, azimuth in degrees from -180, and 1, or -1 for its mirror image.
    Templates are in their own order, not by score.
    """
    *outer, n_radius, n_azimuth = polar.shape
    patterns = torch.from_numpy(np.nan_to_num(polar.reshape(-1, n_radius, n_azimuth)).astype(np.float32))
    rows = np.empty((len(patterns), len(templates.intensity), 4))
    rows[..., 0] = np.arange(rows.shape[1])
    waves = [torch.fft.rfft(some).permute(2, 0, 1).contiguous() for some in patterns.split(PATTERNS_AT_ONCE)]
    for first in range(0, rows.shape[1], TEMPLATES_AT_ONCE):
        chosen = slice(first, first + TEMPLATES_AT_ONCE)
        harmonics = torch.fft.rfft(_pictures(templates, chosen, n_radius, n_azimuth)).permute(2, 1, 0).contiguous()
        for number, wave in enumerate(waves):
            start = number * PATTERNS_AT_ONCE
            best = _best(wave, harmonics, n_azimuth)
            rows[start : start + wave.shape[1], chosen, 1:] = torch.stack(best, dim=-1).double().numpy()
    rows[..., 2] = rows[..., 2] * (360 / n_azimuth) - 180
    return rows.reshape(*outer, *rows.shape[1:])


def by_fourier(polar: Any, templates: PolarTemplates) -> da.Array:
    """`pyxem_rows` of a lazy, prepared polar signal, lazily; a kernel for `matching.match`."""
    data = polar.data.rechunk({2: -1, 3: -1})
    n = len(templates.intensity)
    return data.map_blocks(pyxem_rows, templates, dtype=float, chunks=(*data.chunks[:2], (n,), (4,)))


def _pictures(templates: PolarTemplates, chosen: slice, n_radius: int, n_azimuth: int) -> Tensor:
    """Templates of unit norm, as pyxem has them, on the polar grid, ``(n, n_radius, n_azimuth)``."""
    intensity = templates.intensity[chosen]
    unit = intensity / np.sqrt(np.square(intensity).sum(axis=1, keepdims=True))
    picture = np.zeros((len(unit), n_radius, n_azimuth), np.float32)
    number = np.arange(len(unit))[:, None]
    np.add.at(picture, (number, templates.radius_bin[chosen], templates.azimuth_bin[chosen]), unit)
    return torch.from_numpy(picture)


def _best(patterns: Tensor, templates: Tensor, n_azimuth: int) -> tuple[Tensor, Tensor, Tensor]:
    """Best correlation of patterns (m, b, r) with templates (m, r, n), its bin of azimuth and its sign, each (b, n)."""
    value, place = [], []
    for other in (templates.conj(), templates):
        product = torch.bmm(patterns, other).permute(1, 2, 0)
        score, shift = torch.fft.irfft(product, n=n_azimuth).max(dim=-1)
        value.append(score)
        place.append(shift)
    direct = value[0] >= value[1]
    shift = torch.where(direct, place[0], place[1]).float()
    return torch.maximum(value[0], value[1]), shift, torch.where(direct, 1.0, -1.0)
