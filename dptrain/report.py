"""`dptrain report` of a run: a page, its pictures and its table, from what run and predictions left on disk."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dpcurate.errors import InputError
from dptrain import report_figures as draw
from dptrain import report_page as html
from dptrain import report_text as text
from dptrain.provenance import repeat_commands, run_facts
from dptrain.report_data import RunEvidence, ScanEvidence, read_run
from dptrain.report_numbers import Errors, errors_of, groups_of, scan_scores, write_scores
from dptrain.scores import Score, guess_score

HEAD = ("pixels", "answer", "n", "grains", "≤ 1°", "≤ 3°", "≤ 5°", "≤ 10°", "median", "mean")


def report_run(folder: Path, *, predictions: Sequence[Path] = (), out: Path | None = None) -> Path:
    """Write the report of a finished run and return the path of its page.

    Parameters
    ----------
    folder, predictions
        As for ``report_data.read_run``.
    out
        The page, ending in .html; default ``report.html`` in the run's folder. Pictures and table lie beside it, in a
        folder of its name without the ending.

    Raises
    ------
    InputError
        As ``read_run``; ``out`` does not end in .html or cannot be written.
    """
    out = out or folder / "report.html"
    if out.suffix != ".html":
        raise InputError(f"--out {out}: give a file name that ends in .html.")
    run = read_run(folder, predictions=predictions)
    pictures = make_folder(out.with_suffix(""))
    guess = _guess(run)
    scored = [(scan, errors_of(scan), scan_scores(scan)) for scan in run.scans]
    write_scores(pictures / "scores.csv", [(scan.name, score) for scan, _, scores in scored for score in scores], guess)
    parts = [part for each in scored for part in _scan_parts(*each, guess=guess, folder=pictures)]
    parts += [_training_part(run, pictures), _provenance_part(run)]
    reference = run.config.dataset
    assert reference is not None, "a finished run has read a dataset"
    under = f"Network {run.config.model}, dataset {reference.name}@{reference.version}, seed {run.config.seed}"
    return html.write_page(out, html.page(f"Report of {folder.resolve().name}", under=under, parts=parts))


def make_folder(path: Path) -> Path:
    """Make a folder for pictures; InputError when it cannot be made."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path}: cannot be made ({error.strerror}); choose another --out.") from error
    return path


def score_row(score: Score) -> tuple[str, ...]:
    """A score as the cells of the page's table."""
    shares = (score.within_1_deg, score.within_3_deg, score.within_5_deg, score.within_10_deg)
    return (
        score.pixels,
        score.answer,
        str(score.n_pixels),
        "" if score.n_grains is None else str(score.n_grains),
        *(text.percent(share) for share in shares),
        f"{score.median_deg:.2f}°",
        f"{score.mean_deg:.1f}°",
    )


def _guess(run: RunEvidence) -> Score | None:
    """The guess under the symmetry of the only phase; with several there is none to compare with."""
    phases = run.dataset.manifest.phases
    return guess_score(phases[0].proper_rotations()) if len(phases) == 1 else None


def _scan_parts(
    scan: ScanEvidence, errors: Errors, scores: list[Score], *, guess: Score | None, folder: Path
) -> list[str]:
    say = text.accuracy_sentences if scan.truth is not None else text.agreement_sentences
    spoken = html.sentences(*say(scores, guess)) if scores else ""
    cards = html.cards(text.head_cards(scores, guess)) if scores else ""
    return [
        cards,
        html.section(f"Scan {scan.name}: what the numbers say", spoken) if spoken else "",
        _maps_part(scan, folder),
        _errors_part(scan, errors, guess=guess, folder=folder) if errors else "",
        _table_part(scan, scores, guess) if scores else "",
    ]


def _maps_part(scan: ScanEvidence, folder: Path) -> str:
    step, phases = draw.step_nm(scan.network), scan.network.phases
    truth = scan.truth
    maps = {
        "labels": None if scan.labels is None else (scan.labels.orientation, scan.labels.phase_id, scan.labels.phases),
        "network": (scan.network.orientation, scan.network.phase_id, phases),
        "exact truth": None
        if truth is None or len(phases) > 1
        else (truth.quat, np.zeros(truth.grain.shape, np.int16), phases),
    }
    titles = {"labels": "template matching (labels)"}
    pictures = []
    for name, one in maps.items():
        if one is not None:
            title = titles.get(name, name)
            path = folder / f"{scan.name}_orientation_{name.replace(' ', '_')}.png"
            draw.orientation_map(path, one[0], one[1], phases=one[2], title=title, step_nm=step)
            pictures.append(html.Picture(path, f"Orientation map: {title}"))
    for phase in phases:
        path = draw.color_key(folder / f"color_key_{phase.name}.png", phase)
        pictures.append(html.Picture(path, f"Colour key of {phase.name}"))
    words = (
        "Colour tells which crystal direction lies along the beam (key at the end); a turn about the beam changes no "
        "colour, so equal colours are not yet equal orientations. Dark grey: no orientation."
    )
    confidence = []
    for name, answer in (("labels", scan.labels), ("network", scan.network)):
        if answer is not None:
            path = folder / f"{scan.name}_confidence_{name}.png"
            draw.score_map(path, answer.confidence, title=f"confidence, {name}", step_nm=step)
            confidence.append(html.Picture(path, f"Confidence, {name}"))
    trust = (
        "How sure each answer is of itself, 0 to 1. Labels: the probability to be within 3 degrees of the truth. "
        "Network: the probability it gives to orientations around its answer. The two scales differ."
    )
    return html.section(
        f"Scan {scan.name}: maps",
        html.figures(pictures),
        html.caption(words),
        html.figures(confidence),
        html.caption(trust),
    )


def _errors_part(scan: ScanEvidence, errors: Errors, *, guess: Score | None, folder: Path) -> str:
    unseen = groups_of(scan).get(text.UNSEEN, np.zeros(scan.network.shape, bool))
    against = "the exact truth" if scan.truth is not None else "the labels"
    maps = []
    for name, error in errors.items():
        path = folder / f"{scan.name}_error_{name.replace(' ', '_')}.png"
        draw.error_map(path, error, title=name, outline=unseen, step_nm=draw.step_nm(scan.network))
        maps.append(html.Picture(path, f"Disorientation, {name}"))
    stem = f"{scan.name}_histogram"
    drawn = draw.histograms(
        folder / f"{stem}_fine.png",
        folder / f"{stem}_all.png",
        errors,
        guess_mean_deg=guess.mean_deg if guess else None,
    )
    shown = [html.Picture(path, f"Histogram of disorientations from {against}") for path in drawn]
    border = " Black lines enclose grains of which the network saw no pixel in training." if unseen.any() else ""
    words = f"Disorientation from {against}, the smallest angle under the crystal's symmetry, all pixels.{border}"
    tail = "Share of the scan's pixels in each bin: up to 10 degrees, and all of them on a logarithmic axis."
    return html.section(
        f"Scan {scan.name}: how far off",
        html.figures(maps),
        html.caption(words),
        html.figures(shown, wide=True),
        html.caption(tail),
    )


def _table_part(scan: ScanEvidence, scores: list[Score], guess: Score | None) -> str:
    rows = [score_row(score) for score in [*scores, *([guess] if guess else [])]]
    groups = {score.pixels: None for score in scores}
    against = "the exact truth" if scan.truth is not None else "the labels"
    kinds = "true grains" if scan.truth is not None else "grains of the index"
    note = (
        f"Share of the pixels whose disorientation from {against} is at most 1, 3, 5 and 10 degrees. Pixels without an "
        f"orientation count as 180 degrees off. Grains are {kinds}. "
        + " ".join(f"{name.capitalize()}: {text.MEANING[name]}." for name in groups)
    )
    if guess:
        note += f" Random guess: {guess.n_pixels} pairs of random orientations, fixed seed."
    if scan.truth is not None and len(scan.network.phases) > 1:
        note += (
            " The truth names no phase: each answer is compared under the phase it gives, so wrong phases are not seen."
        )
    return html.section(
        f"Scan {scan.name}: the numbers", html.table(HEAD, rows, n_text=2, groups=True), html.caption(note)
    )


def _training_part(run: RunEvidence, folder: Path) -> str:
    pictures = [html.Picture(path, "Training curve") for path in draw.training_curves(folder, run.metrics)]
    best = int(np.argmin(run.metrics["validation_loss"]))
    learnt = "the exact truth" if run.config.label_source == "truth" else "its labels"
    words = (
        f"{len(run.metrics['epoch'])} epochs of {int(run.metrics['samples'][-1])} patterns in "
        f"{run.metrics['seconds'].sum() / 60:.1f} minutes. The network learnt from {learnt}; used here is that of "
        f"epoch {int(run.metrics['epoch'][best])}, where the validation loss was smallest. Validation patterns are of "
        "grains (of the index) that are not in the training split, and simulated ones, if the dataset has any."
    )
    return html.section("Training", html.figures(pictures, wide=True), html.caption(words))


def _provenance_part(run: RunEvidence) -> str:
    lines = repeat_commands(run)
    return html.section(
        "Where this comes from", html.facts(run_facts(run)), html.caption("To repeat it:"), html.commands(lines)
    )
