"""The pictures of a dataset's card: where orientations lie, how confident labels are, examples, what was kept."""

from io import BytesIO

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm, to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from scipy.ndimage import gaussian_filter

from dpcurate.card_examples import Example, spots_of
from dpcurate.choosing import KEPT, LOW, NOT_INDEXED, Story
from dpcurate.color_keys import NOT_INDEXED as DARK
from dpcurate.figures import STRONG, draw_borders, draw_categories
from dpcurate.labels import Labels
from dpcurate.pole_density import draw_density
from dpcurate.schema import SPLITS, Manifest

DPI = 110

BINS = 25
"""Classes of confidence."""

SMOOTH_PX, BLACK = 0.8, 0.998
"""As of a preview's pictures: blur for the eye, and quantile of the counts outside the direct beam that is black."""

K_MIN_INV_ANGSTROM = 0.15

LABEL_COLOR, OTHER_COLOR = "#d1495b", "#0072b2"

SPLIT_COLORS = STRONG[:3]

DROPPED_COLORS = ("#BBBBBB", "#CC79A7", "#56B4E9", "#F0E442")
"""Of pixels whose confidence is too low, and of the rules after that."""

PER_LINE = 4


def density_picture(manifest: Manifest, labels: Labels) -> bytes:
    """Where the orientations of each phase lie: of scans, and where there are any of simulated patterns, PNG."""
    real = labels["pixel"][:, 0] >= 0
    kinds = [(name, mask) for name, mask in (("scans", real), ("simulated", ~real)) if mask.any()]
    phases = manifest.phases
    figure = _figure(4.4 * len(kinds), 3.5 * len(phases))
    grid = figure.subplots(len(phases), len(kinds), squeeze=False)
    for number, phase in enumerate(phases):
        for axes, (name, mask) in zip(grid[number], kinds, strict=True):
            here = mask & (labels["phase_id"] == number)
            if here.any():
                words = f"{phase.name}, {name}: {here.sum()} patterns"
                draw_density(axes, labels["orientation"][here], phase, title=words)
            else:
                axes.axis("off")
    return _png(figure)


def confidence_picture(story: Story) -> bytes:
    """Confidence of the labels that were kept and of those that were not, PNG."""
    figure = _figure(6.4, 3.2)
    axes = figure.subplots()
    confidence = np.concatenate([index.confidence.ravel() for index in story.indexes])
    fate = np.concatenate([one.ravel() for one in story.fates.maps])
    edges = np.linspace(0, 1, BINS + 1)
    groups = [("kept", fate == KEPT, LABEL_COLOR), ("left out", (fate != KEPT) & (fate != NOT_INDEXED), "#BBBBBB")]
    axes.hist(
        [confidence[mask] for _, mask, _ in groups],
        edges.tolist(),
        stacked=True,
        color=[color for _, _, color in groups],
        label=[name for name, _, _ in groups],
    )
    axes.axvline(story.min_confidence, color="black", linestyle=":", label=f"threshold {story.min_confidence:g}")
    axes.set(xlabel="confidence", ylabel="labels", xlim=(0, 1))
    axes.legend(fontsize=8, loc="upper left", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return _png(figure)


def kept_picture(story: Story, *, scan: int) -> bytes:
    """Which pixels of a scan the dataset holds, by split, and why others are not in it, with the grains, PNG."""
    index, fate = story.indexes[scan], story.fates.maps[scan]
    split = story.splits[scan].reshape(fate.shape)
    colors = [*SPLIT_COLORS, *DROPPED_COLORS]
    rules = [LOW, *range(KEPT + 1, len(story.fates.words))]
    number = np.where(fate == KEPT, split, -1).astype(int)
    for place, rule in enumerate(rules):
        number[fate == rule] = len(SPLITS) + place
    rows, columns = fate.shape
    height = float(np.clip(4.4 * rows / columns, 1.2, 9))
    figure = _figure(7.4, height + 0.7)
    axes = figure.subplots()
    calibration = index.info["calibration"]
    known = calibration.get("sources", {}).get("step_nm", "") != "assumed"
    step = calibration.get("step_nm") if known else None
    draw_categories(axes, number, colors[: len(SPLITS) + len(rules)], title="", step_nm=step)
    draw_borders(axes, index.grain_id)
    words = [*(f"kept: {name}" for name in SPLITS), *(f"left out: {story.fates.words[rule]}" for rule in rules)]
    keys = [(color, word) for color, word in zip(colors, words, strict=False) if (number == words.index(word)).any()]
    keys += [(to_hex(DARK), "not indexed")] if (number == -1).any() else []
    patches = [Patch(facecolor=color, edgecolor="black", linewidth=0.5, label=word) for color, word in keys]
    axes.legend(handles=patches, loc="center left", bbox_to_anchor=(1.02, 0.5), fontsize=8, frameon=False)
    return _png(figure)


def examples_picture(manifest: Manifest, examples: list[Example]) -> bytes:
    """Patterns with the spots of their labels as circles, those of a label that was replaced as crosses, PNG."""
    lines = -(-len(examples) // PER_LINE)
    figure = _figure(2.6 * PER_LINE, 3.05 * lines)
    grid = figure.subplots(lines, PER_LINE, squeeze=False).ravel()
    for axes, example in zip(grid, examples, strict=False):
        _draw_example(axes, manifest, example)
    for axes in grid[len(examples) :]:
        axes.axis("off")
    return _png(figure)


def _draw_example(axes: Axes, manifest: Manifest, example: Example) -> None:
    counts = gaussian_filter(np.clip(np.asarray(example.pattern, float), 0, None), SMOOTH_PX)
    row, column = np.indices(counts.shape)
    away = np.hypot(column - example.center_xy[0], row - example.center_xy[1]) * example.scale_inv_angstrom
    outside = away > K_MIN_INV_ANGSTROM
    high = max(float(np.quantile(counts[outside], BLACK)) if outside.any() else 0.0, 1e-6)
    axes.imshow(counts, cmap="gray_r", norm=PowerNorm(0.5, 0, high), interpolation="nearest")
    place, share = spots_of(manifest, example, example.phase_id, example.orientation, k_min=K_MIN_INV_ANGSTROM)
    size = 14 + 70 * np.sqrt(share)
    axes.scatter(place[:, 0], place[:, 1], s=size, facecolors="none", edgecolors=LABEL_COLOR, linewidths=0.8)
    if example.replaced is not None:
        place, share = spots_of(manifest, example, *example.replaced, k_min=K_MIN_INV_ANGSTROM)
        axes.scatter(place[:, 0], place[:, 1], s=6 + 30 * np.sqrt(share), marker="x", color=OTHER_COLOR, linewidths=0.7)
    height, width = counts.shape
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5), xticks=[], yticks=[])
    axes.set_title(example.words, fontsize=7.5)


def _figure(width: float, height: float) -> Figure:
    matplotlib.use("Agg")
    return Figure(figsize=(width, height), layout="constrained")


def _png(figure: Figure) -> bytes:
    file = BytesIO()
    figure.savefig(file, format="png", dpi=DPI, bbox_inches="tight")
    return file.getvalue()
