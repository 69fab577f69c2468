"""A preview of an index: every k-th pixel matched, and a picture in which a wrong calibration is seen at a glance."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpcurate.bad_patterns import usable
from dpcurate.confidence import reliability
from dpcurate.errors import InputError
from dpcurate.explained import Explained, spots_explained
from dpcurate.matching import Matches
from dpcurate.pipeline import match_scan, read_phases
from dpcurate.preprocess import k_max_of
from dpcurate.reach import with_reach
from dpcurate.recipe import Recipe
from dpcurate.scan_sample import sample_scan
from dpcurate.scans import Scan, open_scan, reading
from dpcurate.schema import PhaseRecord
from dpcurate.wandering import steadied

PREVIEWED = 400
"""Pixels that are indexed, about, unless the distance is given."""

SHOWN = (0.95, 0.65, 0.35, 0.05)
"""Quantiles of the correlation of the patterns that are shown."""


@dataclass(frozen=True)
class Preview:
    """Every k-th pixel of a scan, matched."""

    scan: Scan
    """Of these pixels alone."""
    every: int
    first: tuple[int, int]
    """Row and column in the whole scan of the first pixel."""
    phases: tuple[PhaseRecord, ...]
    matches: Matches
    good: NDArray[np.bool_]
    """Pixels that were matched, (rows, columns)."""
    k_min: float
    reliability: NDArray[np.float32]
    shown: tuple[tuple[int, int], ...]
    """Row and column, in the preview, of the patterns that are shown."""
    patterns: NDArray[Any]
    """Their counts, (n, h, w)."""
    explained: Explained
    """Spots that lie on those of the matched templates."""

    @property
    def correlation(self) -> NDArray[np.float32]:
        """Of the best candidate, (rows, columns)."""
        return np.asarray(self.matches.score[..., 0])

    @property
    def step_is_known(self) -> bool:
        """Whether scan pixels have a size."""
        return self.scan.calibration.sources["step_nm"] != "assumed"

    def in_scan(self, row: int, column: int) -> tuple[int, int]:
        """Row and column in the whole scan of a pixel of the preview."""
        return self.first[0] + row * self.every, self.first[1] + column * self.every

    def summary(self) -> str:
        """How many pixels, and the medians, in one sentence."""
        correlation, clear = (np.median(values[self.good]) for values in (self.correlation, self.reliability))
        rows, columns = self.good.shape
        return (
            f"{rows} x {columns} pixels, one in {self.every} in both directions: median correlation {correlation:.3f}, "
            f"median reliability {clear:.3f}; {self.explained.share:.0%} of {self.explained.n_spots} spots lie on "
            f"spots of the matched templates ({self.explained.by_chance:.0%} by chance)."
        )


def preview_scan(source: Any, recipe: Recipe, *, every: int | None = None, out: Path | None = None) -> Preview:
    """Match every k-th pixel of a scan (path or HyperSpy signal) in both directions; a picture when ``out`` is given.

    By default k is such that about `PREVIEWED` pixels are taken. Nothing else is written, and nothing is kept.

    Raises
    ------
    InputError
        For bad input as `pipeline.index_scan`, a distance below 1, and a picture that cannot be written.
    """
    if every is not None and every < 1:
        raise InputError(f"--preview-every {every}: 1 or more is needed, such as 8 for every eighth pixel.")
    if out is not None and not out.parent.is_dir():
        raise InputError(f"{out.parent}: no such folder. Choose another place with --out.")
    whole = open_scan(source, recipe.scan)
    phases = read_phases(recipe.phases)
    every = every or max(1, round(float(np.sqrt(whole.shape[0] * whole.shape[1] / PREVIEWED))))
    scan = thinned(whole, every)
    sample = sample_scan(scan)
    scan, _ = steadied(scan, sample)
    recipe = with_reach(scan, recipe, sample=sample)
    matched = match_scan(scan, phases, recipe)
    good = usable(matched.skipped, name=scan.name) & (matched.matches.score[..., 0] > 0)
    clear = reliability(matched.matches.score[..., 0], matched.matches.runner_up_score)
    c, shape = scan.calibration, scan.patterns.shape[2:]
    k_max = k_max_of(shape, c.center_xy, c.scale_inv_angstrom, recipe.preprocess)
    shown = _examples(matched.matches.score[..., 0], good)
    with reading(scan.name):
        patterns = np.array([np.asarray(scan.patterns[row, column].compute()) for row, column in shown])
    preview = Preview(
        scan=scan,
        every=every,
        first=first_pixel(whole.shape, every),
        phases=phases,
        matches=matched.matches,
        good=good,
        k_min=recipe.preprocess.k_min_inv_angstrom,
        reliability=clear,
        shown=shown,
        patterns=patterns,
        explained=spots_explained(
            scan,
            matched.matches.orientation[:, :, 0],
            np.where(good, matched.matches.phase_id[..., 0], -1),
            phases,
            k_range=(recipe.preprocess.k_min_inv_angstrom, k_max),
        ),
    )
    if out is not None:
        from dpcurate.preview_figure import write_preview

        try:
            write_preview(preview, out)
        except OSError as error:
            raise InputError(f"{out}: cannot be written ({error}). Choose another place with --out.") from error
    return preview


def thinned(scan: Scan, every: int) -> Scan:
    """The scan of every k-th pixel in both directions, from the middle of the first step."""
    first = first_pixel(scan.shape, every)
    step_nm = scan.calibration.step_nm * every
    return replace(
        scan,
        patterns=scan.patterns[first[0] :: every, first[1] :: every],
        calibration=scan.calibration.model_copy(update={"step_nm": step_nm}),
    )


def first_pixel(shape: tuple[int, int], every: int) -> tuple[int, int]:
    """Row and column at which every k-th pixel begins."""
    row, column = (min(every // 2, (size - 1) // 2) for size in shape)
    return row, column


def _examples(score: NDArray[np.float32], good: NDArray[np.bool_]) -> tuple[tuple[int, int], ...]:
    """Pixels at the quantiles `SHOWN` of the score, none twice."""
    place = np.argwhere(good)
    if not len(place):
        return ()
    order = place[np.argsort(score[good], kind="stable")]
    ranks = sorted({round(quantile * (len(order) - 1)) for quantile in SHOWN}, reverse=True)
    return tuple((int(order[rank][0]), int(order[rank][1])) for rank in ranks)
