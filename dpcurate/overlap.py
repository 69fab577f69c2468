"""Patterns near grain boundaries taken apart, band by band: which grains they hold, and in which shares."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter

from dpcurate.band_map import collect, map_bands
from dpcurate.bands import Band, cut_bands, pieces, widened
from dpcurate.engine import N_AZIMUTH, N_RADIUS
from dpcurate.matchers import read_mask
from dpcurate.polar import PolarTransform, polar_transform, to_polar
from dpcurate.recipe import Recipe
from dpcurate.scan_sample import sample_scan
from dpcurate.scans import Scan, reading
from dpcurate.shares import HALO, MOST_GRAINS, Shares, core, near_boundary, shares_of, smooth
from dpcurate.workers import Result, Work, Workers


def scan_shares(
    scan: Scan,
    grain_id: NDArray[np.int32],
    recipe: Recipe,
    *,
    k_max: float,
    key: str,
    keep: Path | None,
    workers: Workers,
) -> Shares:
    """Who is in each pattern of a scan, by the patterns inside the grains around; see `map_bands` for the rest.

    Raises InputError for a scan that cannot be read.
    """
    near = near_boundary(grain_id)
    if not near.any():
        nobody, one = np.full(grain_id.shape, -1, np.int32), np.ones(grain_id.shape, np.float32)
        return Shares(first=grain_id, second=nobody, weight=one)
    results = map_bands(
        scan,
        partial(share_maker, recipe=recipe, k_max=k_max),
        bands=cut_bands(scan),
        key=f"shares {key}",
        desc="overlap",
        keep=keep,
        maps={"grain_id": grain_id, "inner": core(grain_id)},
        halo=HALO,
        workers=workers,
    )
    parts = collect(results, (slice(0, scan.shape[0]), slice(0, scan.shape[1])))
    pixels = np.argwhere(near)
    at = tuple(pixels.T)
    return smooth(grain_id, pixels, parts["grain"][at], parts["share"][at])


def share_maker(scan: Scan, *, recipe: Recipe, k_max: float) -> Work:
    """What gives, of each pixel of a band, grains and their shares of its pattern, (rows, columns, MOST_GRAINS)."""
    transform = scan_transform(scan, recipe, k_max=k_max, faulty=sample_scan(scan).faulty)

    def work(band: Band, *, grain_id: NDArray[np.int32], inner: NDArray[np.bool_]) -> Result:
        wide = widened(band, HALO, scan.shape)
        own = tuple(slice(b.start - w.start, b.stop - w.start) for b, w in zip(band, wide, strict=True))
        near = np.zeros(grain_id.shape, bool)
        near[own] = near_boundary(grain_id)[own]
        pixels = np.argwhere(near)
        grain = np.full((*grain_id.shape, MOST_GRAINS), -1, np.int32)
        share = np.zeros((*grain_id.shape, MOST_GRAINS), np.float32)
        if len(pixels):
            wanted = near | (inner & maximum_filter(near, 2 * HALO + 1))
            at = tuple(pixels.T)
            grain[at], share[at] = shares_of(_polar(scan, wide, wanted, transform), grain_id, inner, pixels)
        return {"grain": grain[own], "share": share[own]}

    return work


def scan_transform(scan: Scan, recipe: Recipe, *, k_max: float, faulty: NDArray[np.bool_]) -> PolarTransform:
    """The polar transform of a scan's patterns, without ``faulty`` pixels (h, w) and those of the recipe's mask."""
    calibration, shape = scan.calibration, scan.patterns.shape[2:]
    return polar_transform(
        shape,
        center_xy=calibration.center_xy,
        scale_inv_angstrom=calibration.scale_inv_angstrom,
        k_min_inv_angstrom=recipe.preprocess.k_min_inv_angstrom,
        k_max_inv_angstrom=k_max,
        n_radius=N_RADIUS,
        n_azimuth=N_AZIMUTH,
        ellipse=calibration.ellipse,
        mask=faulty | read_mask(recipe.preprocess.mask, shape),
    )


def clear_polar(patterns: NDArray[Any], transform: PolarTransform) -> NDArray[np.float32]:
    """Polar patterns (n, bins) without background of patterns (n, h, w); 0 in bins that do not count.

    Rings weigh as many pixels as they have.
    """
    polar, valid = to_polar(torch.as_tensor(patterns.astype(np.float32)), transform), transform.valid
    median = polar.masked_fill(~valid, torch.nan).nanmedian(dim=-1, keepdim=True).values.nan_to_num(0)
    polar = torch.where(valid, polar - median, 0)
    polar *= (transform.k_inv_angstrom / transform.k_inv_angstrom[-1]).sqrt().float()[:, None]
    return polar.flatten(1).numpy()


def _polar(scan: Scan, wide: Band, wanted: NDArray[np.bool_], transform: PolarTransform) -> NDArray[np.float32]:
    """`clear_polar` of the wanted pixels of a part of a scan, (rows, columns, bins), read piece by piece."""
    polar = np.zeros((*wanted.shape, transform.valid.numel()), np.float32)
    for piece in pieces(wide, scan.patterns.shape[2:]):
        here = tuple(slice(p.start - w.start, p.stop - w.start) for p, w in zip(piece, wide, strict=True))
        if wanted[here].any():
            with reading(scan.name):
                patterns = np.asarray(scan.patterns[piece].compute(scheduler="synchronous"))
            polar[here][wanted[here]] = clear_polar(patterns[wanted[here]], transform)
    return polar
