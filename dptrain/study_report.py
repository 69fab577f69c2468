"""`dptrain report` of a study: the curves of accuracy against label quality, the table, the protocol, the verdict."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dpcurate.crystal_maps import read_index
from dpcurate.errors import InputError
from dptrain import report_page as html
from dptrain.checkpoint import write_aside
from dptrain.report import make_folder
from dptrain.report_figures import WIDE, plain, save
from dptrain.scores import guess_errors_deg
from dptrain.study_folder import RESULT, RESULTS_FILE, read_study
from dptrain.study_numbers import Chance, Result, mean, read_results, select, verdicts
from dptrain.study_plan import KINDS, MIN_HELD_OUT_GRAINS, Protocol
from dptrain.study_trial import HELD_OUT, HELD_OUT_INSIDE, PURE_DEG, TRAINING

COLORS = {"threshold": "#0072B2", "random": "#D55E00", "exact": "#009E73"}
MARKERS = {"threshold": "o", "random": "s", "exact": "^"}
SHORT = {"threshold": "above threshold", "random": "random, same number", "exact": "exact, same patterns"}

HEAD = (
    "pixels",
    "labels",
    "threshold",
    "seed",
    "n labels",
    "right",
    "steps",
    "≤ 1°",
    "≤ 3°",
    "≤ 5°",
    "≤ 10°",
    "median",
    "mean",
)


LOWEST_TOP = 5.0
"""Axes reach at least so high, so that noise near zero does not fill a figure."""

TRAINING_WORDS = (
    "Every pixel of the grains that a run could train on, whether its label was used or not. A network that has learnt "
    "these grains by heart, with their wrong labels, shows it here. Not a measure of use on new grains."
)


def report_study(folder: Path, *, out: Path | None = None) -> Path:
    """Write the report of a finished study and return the path of its page.

    ``out`` is the page, ending in .html; default ``report.html`` in the study's folder. Pictures and table lie beside
    it, in a folder of its name without the ending.

    Raises
    ------
    InputError
        No study, or not finished: the message names the runs that are missing.
    """
    out = out or folder / "report.html"
    if out.suffix != ".html":
        raise InputError(f"--out {out}: give a file name that ends in .html.")
    record = read_study(folder)
    planned = record.get("trials", [])
    missing = [name for name in planned if not (folder / "runs" / name / RESULT).is_file()]
    if missing or not planned:
        raise InputError(
            f"{folder}: not finished, {len(missing)} of {len(planned)} runs are missing ({', '.join(missing[:4])}"
            f"{' ...' if len(missing) > 4 else ''}); run the same `dptrain study` again, it goes on."
        )
    results = read_results(folder)
    pictures = make_folder(out.with_suffix(""))
    write_aside(pictures / RESULTS_FILE, (folder / RESULTS_FILE).read_bytes())
    chance = _chance(record)
    held = select(results, kind="threshold", pixels=HELD_OUT)
    scans = ", ".join(Path(one["scan"]["path"]).name for one in record["indexes"])
    under = f"{len(planned)} runs on {scans}, started {record['created']}"
    parts = [
        html.section("What the study says", html.sentences(*verdicts(results, chance))),
        _curves("Held-out grains", results, chance, pixels=HELD_OUT, folder=pictures, words=_held_words(held)),
        _curves(
            "Grains of the training split, for contrast",
            results,
            chance,
            pixels=TRAINING,
            folder=pictures,
            words=TRAINING_WORDS,
        ),
        _table(results, chance),
        html.section("Protocol", html.sentences(*protocol_sentences(record, results))),
        _provenance(folder, record),
    ]
    title = "Accuracy against label quality"
    return html.write_page(out, html.page(title, under=under, parts=parts))


def protocol_sentences(record: dict, results: Sequence[Result]) -> list[str]:
    """How the study was made, in plain sentences."""
    protocol = Protocol.model_validate(record["protocol"])
    steps = sorted({one.steps for one in results})
    quick = "Quick: networks are small and far from trained out. The curves show what such a budget gives."
    return [
        f"Three kinds of training labels: {'; '.join(KINDS.values())}. {record['why']} At the lowest threshold all "
        f"labels stay, so there is no random control. Right means within {PURE_DEG:g} degrees of the exact truth; the "
        "share counts the scans' training labels, not simulated ones.",
        f"Every dataset holds {protocol.simulated} simulated patterns with exact labels as well, the same for all runs "
        "of a seed.",
        "Grains are split by the exact truth, so that no true grain is both trained on and judged. The split depends "
        "on the seed only: all runs of a seed are judged on the same pixels. Another seed is another split, another "
        f"sample and another network. Seeds are the first, from 0, that hold out {MIN_HELD_OUT_GRAINS} grains or more, "
        "or those that hold out most.",
        "Held-out: pixels of the test split whose true grain has no pixel in the training split. A pixel on a boundary "
        "shows a little of its neighbour; inside means pixels of one grain alone.",
        f"Network {protocol.model}, input {protocol.input_size} pixels wide, batches of {protocol.batch_size}. Every "
        f"run was to take {protocol.steps} optimisation steps; whole epochs made it {steps[0]} to {steps[-1]}. The "
        "network after the last step is judged, whatever the validation said.",
        quick if protocol.quick else "",
    ]


def draw_curve(path: Path, results: Sequence[Result], *, pixels: str, x: str, y: str, chance: Chance | None) -> Path:
    """One curve for each kind of labels: a dot for each seed, a line through the means."""
    figure = Figure(figsize=WIDE, layout="constrained")
    axes = figure.subplots()
    factor = 1 if y == "mean_deg" else 100
    for kind, color in COLORS.items():
        chosen = select(results, kind=kind, pixels=pixels)
        limits = sorted({one.min_confidence for one in chosen})
        means = [select(chosen, kind=kind, pixels=pixels, min_confidence=limit) for limit in limits]
        place = [mean(some, x) for some in means]
        height = [factor * mean(some, y) for some in means]
        connected = x == "min_confidence" or kind == "threshold"
        axes.plot(
            place, height, color=color, linewidth=1.8 if connected else 0, marker=MARKERS[kind], ms=7, label=SHORT[kind]
        )
        axes.scatter(
            [getattr(one, x) for one in chosen],
            [factor * getattr(one, y) for one in chosen],
            s=14,
            color=color,
            alpha=0.55,
        )
    if y == "mean_deg" and chance is not None:
        axes.axhline(chance.mean_deg, color="#7A7A7A", linestyle="--", linewidth=1, label="random guess")
    _name_axes(axes, results, x=x, y=y)
    return save(figure, path)


def _name_axes(axes: Axes, results: Sequence[Result], *, x: str, y: str) -> None:
    if x == "min_confidence":
        counts: dict[float, list[int]] = {one.min_confidence: [] for one in results}
        for one in results:
            if one.kind == "threshold":
                counts[one.min_confidence].append(one.n_labels)
        ticks = sorted(counts)
        axes.set_xticks(ticks, [f"{limit:g}\n{np.mean(counts[limit]):.0f}" for limit in ticks])
        axes.set_xlabel("lowest confidence; below it the number of training labels")
    else:
        axes.set_xlabel(f"training labels within {PURE_DEG:g} degrees of the truth (share)")
    axes.set_ylabel("mean disorientation (degrees)" if y == "mean_deg" else "pixels within 5 degrees (%)")
    axes.margins(y=0.08)
    axes.set_ylim(0, max(axes.get_ylim()[1], LOWEST_TOP))
    axes.legend(frameon=False, fontsize=8)
    plain(axes)


def _curves(
    title: str, results: Sequence[Result], chance: Chance | None, *, pixels: str, folder: Path, words: str
) -> str:
    pictures = []
    for x in ("label_purity", "min_confidence"):
        for y in ("mean_deg", "within_5_deg"):
            path = folder / f"{pixels.split()[0].replace('-', '_')}_{y}_against_{x}.png"
            draw_curve(path, results, pixels=pixels, x=x, y=y, chance=chance)
            pictures.append(html.Picture(path, f"{title}: {y} against {x}"))
    how = "Large marks: means over the seeds, joined along rising thresholds; small dots: each seed."
    return html.section(title, html.figures(pictures, wide=True), html.caption(f"{how} {words}"))


def _held_words(held: Sequence[Result]) -> str:
    each = {one.seed: f"seed {one.seed}: {one.n_pixels} pixels, grains: {one.n_grains}" for one in held}
    return (
        f"Judged on {'; '.join(each.values())}. The pixels of a grain share its orientation, so the grains are the "
        "independent cases, and with so few of them a point can move much with other grains."
    )


def _table(results: Sequence[Result], chance: Chance | None) -> str:
    rows = [
        (
            one.pixels,
            one.kind,
            f"{one.min_confidence:g}",
            str(one.seed),
            str(one.n_labels),
            f"{100 * one.label_purity:.0f} %",
            str(one.steps),
            *(
                f"{100 * share:.1f} %"
                for share in (one.within_1_deg, one.within_3_deg, one.within_5_deg, one.within_10_deg)
            ),
            f"{one.median_deg:.1f}°",
            f"{one.mean_deg:.1f}°",
        )
        for pixels in (HELD_OUT, HELD_OUT_INSIDE, TRAINING)
        for kind in KINDS
        for one in select(results, kind=kind, pixels=pixels)
    ]
    note = (
        f" A uniform random guess is off by {chance.mean_deg:.1f} degrees on average (computed, fixed seed)."
        if chance
        else ""
    )
    return html.section(
        "The numbers",
        html.table(HEAD, rows, n_text=2, groups=True),
        html.caption("Each row is one run over one group of pixels, disorientation from the exact truth." + note),
    )


def _chance(record: dict) -> Chance | None:
    """The guess under the symmetry of the only phase; with several there is none to compare with."""
    phases = {phase for one in record["indexes"] for phase in read_index(one["path"]).phases}
    if len(phases) != 1:
        return None
    error = guess_errors_deg(phases.pop().proper_rotations())
    return Chance(float(error.mean()), float(error.std()))


def _provenance(folder: Path, record: dict) -> str:
    protocol = record["protocol"]
    facts = [("study", str(folder.resolve())), ("seeds", ", ".join(map(str, record["seeds"])))]
    for one in record["indexes"]:
        facts.append(("scan", f"{one['scan']['path']}, SHA-256 {one['scan']['sha256']}"))
        facts.append(("index", f"{one['path']}, SHA-256 of its map {one['sha256']}"))
    facts.append(("made by", ", ".join(f"{name} {number}" for name, number in record["software"].items())))
    options = f"--seeds {protocol['seeds']} --simulated {protocol['simulated']} --steps {protocol['steps']}"
    paths = " ".join(one["path"] for one in record["indexes"])
    lines = [
        f"dptrain study label-quality {paths}{' --quick' if protocol['quick'] else ''} {options} --out {folder}",
        f"dptrain report {folder}",
    ]
    return html.section("Where this comes from", html.facts(facts), html.caption("To repeat it:"), html.commands(lines))
