"""Direct beam, scale and ellipse of a whole scan, fitted to its own matches before all of it is matched.

Some patterns are matched; then the spots that their orientations predict are laid over the patterns and moved together
until they meet the most intensity, the intensity being that which the engine compares. What is fitted are the direct
beam, the scale and the ellipse. Then they are matched again with the new calibration.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor

from dpcurate.calibration import Calibration
from dpcurate.engine import N_AZIMUTH, Engine, match_patterns, plate_spots
from dpcurate.matchers import engine_of
from dpcurate.matching import Matches
from dpcurate.polar import polar_transform, stretch_of
from dpcurate.preprocess import k_max_of
from dpcurate.recipe import Recipe
from dpcurate.scan_sample import ScanSample, ring_medians, sample_scan
from dpcurate.scans import Scan
from dpcurate.schema import PhaseRecord

PATTERNS = 128
"""Patterns of the scan that are matched for the fit, about."""

BEST_SHARE = 0.5
"""Of these, the best by score take part in it."""

FEWEST = 12
"""Patterns without which nothing is fitted."""

ROUNDS = 4
"""Of matching and fitting, at most."""

SETTLED_PX = 0.02
"""A round that moves no spot by more is the last."""

MOST_SHIFT = 3.0 / 128
"""Of the direct beam, in widths of the detector; and of the scale. What is further off is not put right but told."""
MOST_SCALE = 0.03
MOST_ELLIPSE = 0.03
"""Long axis over short axis less one. Wrong phases draw it to 3 to 7 %, right ones had up to 2.4 %."""

BETTER_SHARE = 0.7
"""Of the better half of the patterns, whose score must rise, or the calibration stays what was stated. Measured on four
scans of LiNiO2 and LiFePO4 with the scale 0.5 % or the centre 0.3 pixels off, or an ellipse and a scale error of their
own: 0.78 to 0.98 of them. With eight wrong phases 0.36 to 0.63, and one 0.86 with an ellipse of 3.4 %."""


@dataclass(frozen=True)
class Fit:
    """How the detector differs from the calibration that the spots were predicted with."""

    shift_px: tuple[float, float]
    """Of the direct beam (column, row)."""
    larger: float
    """By what share patterns are larger than predicted."""
    ellipse: tuple[float, float]
    """Stretch along x less that along y, halved; and the same along the diagonals."""


def recalibrated(scan: Scan, phases: tuple[PhaseRecord, ...], recipe: Recipe) -> tuple[Scan, dict[str, Any] | None]:
    """The scan with direct beam and scale as its matches have them, and a report; the same scan if that is no better.

    The report has ``applied``, a sentence ``said``, and what was measured; None where the recipe does not ask for it
    (``matching.recalibrate``) or has no scores of the fast engine's own. Raises InputError as matching does.
    """
    stated, wanted = scan.calibration, recipe.matching
    k_max = k_max_of(scan.patterns.shape[2:], stated.center_xy, stated.scale_inv_angstrom, recipe.preprocess)
    asked = wanted.recalibrate and wanted.engine == "fast" and wanted.score == "own"
    if not asked or k_max <= recipe.preprocess.k_min_inv_angstrom:
        return scan, None
    sample = sample_scan(scan, PATTERNS)
    if len(sample.patterns) < FEWEST:
        return scan, _kept(f"{len(sample.patterns)} usable patterns were read, and the fit needs {FEWEST}")
    engine = engine_of(scan, phases, recipe, k_max=k_max, sample=sample)
    calibration, found = stated, match_patterns(engine, sample.patterns, n_best=2)
    before = found.score[:, 0]
    for _ in range(ROUNDS):
        order = np.argsort(-found.score[:, 0], kind="stable")[: max(FEWEST, round(BEST_SHARE * len(sample.patterns)))]
        fit = fitted(engine, sample, found, order, phases=phases, calibration=calibration)
        calibration = moved(calibration, fit)
        engine = _with_calibration(engine, calibration, sample=sample)
        found = match_patterns(engine, sample.patterns, n_best=2)
        if _largest_move_px(fit, k_max / calibration.scale_inv_angstrom) < SETTLED_PX:
            break
    return _judged(scan, calibration, before=before, after=found.score[:, 0], n=len(order))


def moved(calibration: Calibration, fit: Fit) -> Calibration:
    """The calibration with which the spots would have been predicted where they are."""
    x, y = calibration.center_xy
    return calibration.model_copy(
        update={
            "center_xy": (x + fit.shift_px[0], y + fit.shift_px[1]),
            "scale_inv_angstrom": calibration.scale_inv_angstrom / (1 + fit.larger),
            "ellipse": (calibration.ellipse[0] + fit.ellipse[0], calibration.ellipse[1] + fit.ellipse[1]),
        }
    )


def fitted(
    engine: Engine,
    sample: ScanSample,
    found: Matches,
    chosen: NDArray[np.int64],
    *,
    phases: tuple[PhaseRecord, ...],
    calibration: Calibration,
) -> Fit:
    """Where the spots of the ``chosen`` patterns' best matches meet the most intensity, all moved by one affine map."""
    place, amplitude = _predicted(engine, found, chosen, phases=phases, calibration=calibration)
    sigma = engine.frame.spot_sigma_inv_angstrom / calibration.scale_inv_angstrom
    pictures = _pictures(engine, sample.patterns[chosen], calibration=calibration, sigma=sigma)
    values = torch.zeros(5, dtype=torch.float64, requires_grad=True)  # shift over sigma; stretches over sigma / reach
    reach = float(place.norm(dim=-1).max())
    center = torch.tensor(calibration.center_xy, dtype=torch.float64)
    optimizer = torch.optim.LBFGS([values], max_iter=40, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        larger, across, diagonal = values[2:] * (sigma / reach)
        stretch = torch.stack([1 + larger + across, diagonal, diagonal, 1 + larger - across]).view(2, 2)
        at = center + values[:2] * sigma + place @ stretch
        meets = -(amplitude * _read(pictures, at)).sum(dim=1).mean()
        meets.backward()
        return meets

    optimizer.step(loss)
    shift, rest = (values[:2] * sigma).tolist(), (values[2:] * (sigma / reach)).tolist()
    return Fit(shift_px=(shift[0], shift[1]), larger=rest[0], ellipse=(rest[1], rest[2]))


def _predicted(
    engine: Engine,
    found: Matches,
    chosen: NDArray[np.int64],
    *,
    phases: tuple[PhaseRecord, ...],
    calibration: Calibration,
) -> tuple[Tensor, Tensor]:
    """Places relative to the direct beam in pixels (n, k, 2) and amplitudes (n, k) of the best matches' spots."""
    spots = plate_spots(
        beam_energy_kev=calibration.beam_energy_kev,
        precession_deg=calibration.precession_deg,
        k_max_inv_angstrom=float(engine.frame.k_inv_angstrom[-1]),
        thickness_angstrom=engine.scoring.thickness_angstrom,
    )
    orientation, phase_id = found.orientation[chosen, 0], found.phase_id[chosen, 0]
    each = [spots(phase, orientation[phase_id == number]) for number, phase in enumerate(phases)]
    width, stretch = max(q.shape[1] for q, _ in each), stretch_of(calibration.ellipse)
    place = torch.zeros(len(chosen), width, 2, dtype=torch.float64)
    amplitude = torch.zeros(len(chosen), width, dtype=torch.float64)
    for number, (q, intensity) in enumerate(each):
        own = torch.from_numpy(phase_id == number)
        if not own.any():  # a phase that none of these patterns shows
            continue
        share = intensity / intensity.amax(dim=1, keepdim=True).clamp(min=1e-30)
        share = torch.where(q.norm(dim=-1) > float(engine.frame.k_inv_angstrom[0]), share, 0)
        place[own, : q.shape[1]] = q.double() @ torch.from_numpy(stretch) / calibration.scale_inv_angstrom
        amplitude[own, : q.shape[1]] = share.double() ** engine.scoring.template_power
    return place, amplitude


def _pictures(engine: Engine, patterns: NDArray[np.float32], *, calibration: Calibration, sigma: float) -> Tensor:
    """Patterns (n, 1, h, w) as the engine compares them, but on the detector, blurred by a spot's width."""
    shape = patterns.shape[1:]
    row, column = np.indices(shape)
    radius = np.hypot(column - calibration.center_xy[0], row - calibration.center_xy[1])
    inner, outer = (float(engine.frame.k_inv_angstrom[i]) / calibration.scale_inv_angstrom for i in (0, -1))
    inside = (radius > inner) & (radius < outer)
    weight = np.where(inside, radius / outer, 0) ** engine.scoring.ring_power
    ring = np.round(radius).astype(int)
    pictures = np.zeros(patterns.shape)
    for number, pattern in enumerate(patterns):
        above = np.clip(pattern - ring_medians(pattern, ring, inside)[ring], 0, None) * inside
        mean = max(above.sum() / inside.sum(), 1e-12)
        picture = np.log1p(above / (engine.scoring.floor * mean)) * weight
        pictures[number] = gaussian_filter(picture / max(np.linalg.norm(picture), 1e-12), sigma)
    return torch.from_numpy(pictures)[:, None]


def _read(pictures: Tensor, at: Tensor) -> Tensor:
    """Values (n, k) of pictures (n, 1, h, w) at places (n, k, 2) in pixels, cubic."""
    size = torch.tensor(pictures.shape[:-3:-1], dtype=torch.float64)
    grid = (2 * at / (size - 1) - 1)[:, None]
    return torch.nn.functional.grid_sample(pictures, grid, mode="bicubic", align_corners=True)[:, 0, 0]


def _with_calibration(engine: Engine, calibration: Calibration, *, sample: ScanSample) -> Engine:
    """The same templates, with patterns read by another calibration."""
    k = engine.transform.k_inv_angstrom
    transform = polar_transform(
        sample.faulty.shape,
        center_xy=calibration.center_xy,
        scale_inv_angstrom=calibration.scale_inv_angstrom,
        k_min_inv_angstrom=float(k[0]),
        k_max_inv_angstrom=float(k[-1]),
        n_radius=len(k),
        n_azimuth=N_AZIMUTH,
        ellipse=calibration.ellipse,
        mask=sample.faulty,
        device=k.device,
    )
    return replace(engine, transform=transform)


def _largest_move_px(fit: Fit, reach_px: float) -> float:
    return max(*(abs(part) for part in fit.shift_px), *(abs(part) * reach_px for part in (fit.larger, *fit.ellipse)))


def _kept(why: str) -> dict[str, Any]:
    return {"applied": False, "said": f"direct beam and scale are as stated: {why}."}


def _judged(
    scan: Scan,
    calibration: Calibration,
    *,
    before: NDArray[np.float32],
    after: NDArray[np.float32],
    n: int,
) -> tuple[Scan, dict[str, Any]]:
    """The scan with the new calibration where it is better and near the stated one; and the report."""
    stated = scan.calibration
    shift = np.subtract(calibration.center_xy, stated.center_xy)
    larger = stated.scale_inv_angstrom / calibration.scale_inv_angstrom - 1
    ratio = 2 * float(np.hypot(*calibration.ellipse))
    clear = before >= np.median(before)
    better = float((after > before)[clear].mean())
    measured = {
        "patterns": n,
        "center_xy": [round(float(part), 3) for part in calibration.center_xy],
        "scale_inv_angstrom": round(calibration.scale_inv_angstrom, 7),
        "shift_px": [round(float(part), 3) for part in shift],
        "larger_percent": round(100 * larger, 3),
        "ellipse_percent": round(100 * ratio, 3),
        "ellipse": [round(part, 6) for part in calibration.ellipse],
        "score_before": round(float(before.mean()), 4),
        "score_after": round(float(after.mean()), 4),
        "better_share": round(better, 3),
    }
    what = (
        f"the direct beam {np.hypot(*shift):.2f} pixels away, at {calibration.center_xy[0]:.2f}, "
        f"{calibration.center_xy[1]:.2f}, and patterns {100 * larger:+.2f} % larger than stated, with an ellipse of "
        f"{100 * ratio:.2f} %"
    )
    if better < BETTER_SHARE:
        return scan, {**_kept(f"the fit to {n} matches raises too few scores"), **measured}
    too_far = np.hypot(*shift) > MOST_SHIFT * max(scan.patterns.shape[2:]) or abs(larger) > MOST_SCALE
    if too_far or ratio > MOST_ELLIPSE:
        said = f"matches put {what}. That is too far to be put right unasked: check it, then give --center and --scale."
        return scan, {"applied": False, "said": said, **measured}
    fitted_to = {key: f"{stated.sources[key]}, then fitted to matches" for key in ("center_xy", "scale_inv_angstrom")}
    fitted_to["ellipse"] = "fitted to matches"
    calibration = calibration.model_copy(update={"sources": {**stated.sources, **fitted_to}})
    said = f"fitted to {n} matches: {what}."
    return replace(scan, calibration=calibration), {"applied": True, "said": said, **measured}
