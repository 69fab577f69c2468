"""`dptrain report` of a study of conditions: curves of every factor, and what they say to two of the paper's claims."""

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dpcurate.errors import InputError
from dpcurate.orientations import Array
from dpcurate.pipeline import read_phases
from dptrain import curves
from dptrain import report_page as html
from dptrain.checkpoint import write_aside
from dptrain.claims import CONFIRMED, REFUTED, UNDECIDED, Verdict, in_points
from dptrain.report import make_folder
from dptrain.scores import guess_score
from dptrain.study_conditions import MATCHING, UNITS, ConditionsProtocol, Factor
from dptrain.study_figures import draw_curves
from dptrain.study_folder import read_study
from dptrain.study_numbers import MARGIN
from dptrain.study_scores import METRICS, Interval, mean_interval, numbers, paired_interval

ALL = "all patterns"
CHOICES = [("within_5_deg", "share within 5°"), ("within_2_deg", "share within 2°"), ("median_deg", "median")]

MUCH_FASTER = 10.0
"""So many times as many patterns a second are called much faster."""

Errors = dict[str, dict[Factor, dict[float, dict[int, Array]]]]
"""Disorientations by method, factor, level and seed."""


def report_conditions(folder: Path, *, out: Path | None = None) -> Path:
    """Write the page of a study of conditions, of the levels that are done, and return its path.

    Raises InputError when none is done or ``out`` does not end in .html.
    """
    out = out or folder / "report.html"
    if out.suffix != ".html":
        raise InputError(f"--out {out}: give a file name that ends in .html.")
    record = read_study(folder)
    protocol = ConditionsProtocol.model_validate(record["protocol"])
    errors, rates = _read(folder)
    planned = protocol.seeds * sum(len(levels) for levels in protocol.levels.values())
    done = len(list((folder / "levels").glob("*.json")))
    if not done:
        raise InputError(f"{folder}: none of {planned} levels is done; run the same `dptrain study conditions` again.")
    beside = make_folder(out.with_suffix(""))
    guess = _guess_within_5(record)
    said = [_speed(rates, errors, guess), thickness_verdict(errors, guess)]
    rows = [(f"({one.letter}) {one.claim}", one.verdict, one.why) for one in said]
    missing = (
        f"{planned - done} of {planned} levels are missing; give the same command again." if done < planned else ""
    )
    charts = [part for factor in protocol.levels for part in _chart(errors, factor, beside)]
    names = "".join(f" --network {one['path']}" for one in record["tests"])
    command = (
        f"dptrain study conditions {Path(record['indexes'][0]['path']).name}{names} --{protocol.preset} --out STUDY"
    )
    parts = [
        html.section("In short", html.sentences(missing, *_summary(errors, rates, protocol))),
        html.section("Curves", *charts, html.caption("Bars: 95 % intervals, seeds and patterns drawn anew.")),
        html.section("The paper's claims", html.table(("claim", "verdict", "why"), rows, n_text=3)),
        html.section(
            "Where this comes from",
            html.commands([command, "dptrain report STUDY"]),
            html.facts(
                [
                    ("made by", ", ".join(f"{name} {number}" for name, number in record["software"].items())),
                    ("protocol", protocol.model_dump_json()),
                ]
            ),
        ),
    ]
    _table(errors, rates, beside / "levels.csv")
    page = html.page("Accuracy against conditions", under=f"{done} of {planned} levels", parts=parts)
    page = page.replace("</style>", curves.STYLE + "</style>")
    return html.write_page(out, page.replace("</main>", f"<script>{curves.SCRIPT}</script>\n</main>"))


def within_5(errors: Mapping[int, Array]) -> dict[int, Array]:
    """For each seed, 1 where a pattern is within 5 degrees and 0 where it is not."""
    return {seed: (error <= 5).astype(float) for seed, error in errors.items()}


def numbered(errors: Mapping[int, Array]) -> dict[int, np.ndarray]:
    """Every pattern a case of its own."""
    return {seed: np.arange(len(error)) for seed, error in errors.items()}


def _read(folder: Path) -> tuple[Errors, dict[str, list[float]]]:
    errors: Errors = {}
    rates: dict[str, list[float]] = {}
    for path in sorted((folder / "levels").glob("*.json")):
        try:
            one = json.loads(path.read_text(encoding="utf-8"))
            for method, found in one["methods"].items():
                levels = errors.setdefault(method, {}).setdefault(one["factor"], {})
                levels.setdefault(float(one["level"]), {})[int(one["seed"])] = np.array(found["error_deg"], float)
                rates.setdefault(method, []).append(float(found["per_s"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}: damaged ({error!r}); remove it and give the same command again.") from error
    return errors, rates


def _chart(errors: Errors, factor: Factor, folder: Path) -> list[str]:
    series = [
        curves.Series(method, [_point(level, found) for level, found in sorted(factors[factor].items())])
        for method, factors in errors.items()
        if factor in factors
    ]
    if not series:
        return []
    name = factor.replace(" ", "_")
    for metric, words in (("within_5_deg", "share"), ("median_deg", "median")):
        path = folder / f"{name}_{words}.png"
        draw_curves(path, series, group=ALL, metric=metric, x=UNITS[factor], joined=True)
    drawn = curves.curve(series, x=UNITS[factor], groups=[ALL], metrics=CHOICES, joined=True)
    return [f"<h3>{factor}</h3>", drawn]


def _point(level: float, found: Mapping[int, Array]) -> curves.Point:
    values: dict[str, tuple[float, float | None, float | None, list[float]]] = {}
    for metric, _ in CHOICES:
        seeds = [numbers(error)[metric] for error in found.values()]
        ends = Interval(0.0, None, None)
        if metric.startswith("within"):
            limit = float(metric.split("_")[1])
            ends = mean_interval({k: (e <= limit).astype(float) for k, e in found.items()}, numbered(found))
        values[metric] = (float(np.mean(seeds)), ends.low, ends.high, seeds)
    return curves.Point(level, f"{level:g}", {ALL: values})


def _guess_within_5(record: Mapping[str, Any]) -> float:
    """The share within 5 degrees that a random guess gives under the phase's symmetry."""
    path = record["indexes"][0]["path"]
    return guess_score(read_phases((path,))[0].proper_rotations()).within_5_deg


def _knows(errors: Errors, method: str, guess: float) -> bool:
    """Whether a method is better than a guess at any thickness: the whole interval of its share lies above."""
    levels = errors[method].get("thickness", {}).values()
    found = [mean_interval(within_5(one), numbered(one)) for one in levels]
    return any((one.value if one.low is None else one.low) > guess for one in found)


def _speed(rates: Mapping[str, list[float]], errors: Errors, guess: float) -> Verdict:
    networks = [name for name in rates if name != MATCHING]
    if not networks:
        return Verdict("h", UNDECIDED, "because no network was given; give one with --network.")
    if not all(_knows(errors, name, guess) for name in networks):
        return Verdict("h", UNDECIDED, "because a network here is no better than a guess, whose speed means nothing.")
    ratios = {name: float(np.median(np.array(rates[name]) / np.array(rates[MATCHING]))) for name in networks}
    words = "; ".join(f"{name} {ratio:.1f} times as many patterns a second" for name, ratio in ratios.items())
    words += f", median over {len(rates[MATCHING])} levels, same patterns, same machine, library not counted."
    if min(ratios.values()) >= MUCH_FASTER:
        return Verdict("h", CONFIRMED, words)
    if max(ratios.values()) <= 1:
        return Verdict("h", REFUTED, words)
    return Verdict("h", UNDECIDED, f"because only {MUCH_FASTER:g} times is called much faster here: {words}")


def thickness_verdict(errors: Errors, guess: float) -> Verdict:
    """Whether the thickest and the thinnest crystal differ, for every method that is better than a guess.

    The two levels are fixed beforehand.
    """
    said, signs = [], []
    for method, factors in errors.items():
        levels = factors.get("thickness", {})
        if not _knows(errors, method, guess):
            said.append(f"{method}: no better than a guess, so it does not count")
            continue
        if len(levels) < 2 or set(levels[min(levels)]) != set(levels[max(levels)]):
            return Verdict("k", UNDECIDED, "because levels of the thickness are missing.")
        thin, thick = levels[min(levels)], levels[max(levels)]
        found = paired_interval(within_5(thick), within_5(thin), numbered(thin))
        same = found.low is not None and found.high is not None and max(abs(found.low), abs(found.high)) < MARGIN
        signs.append("no" if same else "yes" if found.sign else "open")
        said.append(f"{method}: {max(levels):g} against {min(levels):g} Angstrom {in_points(found)} within 5 degrees")
    verdict = {"yes": CONFIRMED, "no": REFUTED}.get(signs[0], UNDECIDED) if len(set(signs)) == 1 else UNDECIDED
    because = "because the intervals, or the methods, do not decide: " if verdict == UNDECIDED else ""
    return Verdict("k", verdict, because + "; ".join(said) + ".")


def _summary(errors: Errors, rates: Mapping[str, list[float]], protocol: ConditionsProtocol) -> list[str]:
    said = [
        f"{protocol.number} simulated patterns a level and seed, {protocol.seeds} seeds, orientations uniform and the "
        "same at all levels; one factor changes, the others are as usual. Template matching sees each pattern by "
        "itself: no neighbours, no recalibration. The simulator is this project's own, which favours its own templates."
    ]
    for method, factors in errors.items():
        worst = []
        for factor, levels in factors.items():
            share = {
                level: float(np.mean([(e <= 5).mean() for e in found.values()])) for level, found in levels.items()
            }
            low, high = min(share, key=lambda one: share[one]), max(share, key=lambda one: share[one])
            worst.append(f"{factor} {100 * share[low]:.0f} % at {low:g} to {100 * share[high]:.0f} % at {high:g}")
        said.append(
            f"{method}, within 5 degrees: {'; '.join(worst)}. {np.median(rates[method]):.0f} patterns a second."
        )
    return said


def _table(errors: Errors, rates: Mapping[str, list[float]], path: Path) -> None:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(("method", "factor", "level", "seed", "n", *METRICS, "median_per_s"))
    for method, factors in errors.items():
        for factor, levels in factors.items():
            for level, found in sorted(levels.items()):
                for seed, error in found.items():
                    values = numbers(error).values()
                    writer.writerow((method, factor, level, seed, len(error), *values, np.median(rates[method])))
    write_aside(path, stream.getvalue().encode())
