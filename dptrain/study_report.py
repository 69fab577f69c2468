"""`dptrain report` of a study: what it says in five sentences, curves, claims, maps, tables, and how to repeat it."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from dpcurate.crystal_maps import read_index
from dpcurate.errors import InputError
from dptrain import curves, study_series
from dptrain import report_page as html
from dptrain.checkpoint import write_aside
from dptrain.claims import Verdict, verdicts
from dptrain.report import make_folder
from dptrain.scores import Score, guess_score
from dptrain.search_figures import search_part
from dptrain.study_figures import draw_curves, draw_maps
from dptrain.study_folder import RESULTS_FILE, planned_trials, write_results
from dptrain.study_numbers import JUDGED, Findings, fact, interval, is_a_guess, mean, read_findings
from dptrain.study_plan import KINDS, MIN_HELD_OUT_GRAINS, Protocol
from dptrain.study_scores import METRICS, RESAMPLES
from dptrain.study_text import protocol_words, summary
from dptrain.study_trial import PURE_DEG

TITLES = {
    "label-quality": "Accuracy against label quality",
    "architectures": "Networks under one protocol",
    "choices": "Choices of training, one at a time",
    "hyperparameters": "A search for choices of training",
}

CHOICES = [("within_5_deg", "share within 5°")]
CHOICES += [(f"within_{limit}_deg", f"share within {limit}°") for limit in (1, 2, 3, 10)]
CHOICES += [("mean_deg", "mean"), ("median_deg", "median"), ("p95_deg", "95th percentile")]

HEAD = (
    "pixels",
    "setting",
    "runs",
    "labels",
    "right",
    *("≤ 1°", "≤ 2°", "≤ 3°", "≤ 5°", "≤ 10°"),
    "median",
    "mean",
    "95 %",
)

ENDS, COSTS = ("within_5_low", "within_5_high"), ("train_s", "predict_per_s", "n_weights")

SHEET = ("pixels", "setting", "runs", "labels", "label_purity", *METRICS, *ENDS, *COSTS)

CLAIM_COLUMNS = ("claim", "words", "verdict", "why", "figure", "command")


def report_study(folder: Path, *, out: Path | None = None) -> Path:
    """Write the report of a study, of the runs that are done, and return the path of its page.

    ``out`` is the page, ending in .html; default ``report.html`` in the study's folder. Pictures and tables lie beside
    it, in a folder of its name without the ending. Runs that are missing or failed are named on the page.

    Raises
    ------
    InputError
        No study, none of its runs is done, or a result is damaged.
    """
    out = out or folder / "report.html"
    if out.suffix != ".html":
        raise InputError(f"--out {out}: give a file name that ends in .html.")
    findings = read_findings(folder)
    beside = make_folder(out.with_suffix(""))
    write_results(folder, planned_trials(folder, findings.record))
    write_aside(beside / RESULTS_FILE, (folder / RESULTS_FILE).read_bytes())
    guess = _guess(findings)
    said = verdicts(findings, guess.within_5_deg if guess else 0.0)
    _write_csv(
        beside / "claims.csv",
        [CLAIM_COLUMNS, *((one.letter, one.claim, one.verdict, one.why, one.figure, one.command) for one in said)],
    )
    parts = [
        html.section("In short", html.sentences(*summary(findings, guess))),
        _missing(findings),
        _curves(findings, guess, beside),
        search_part(folder, beside),
        _claims(said),
        _maps(findings, beside),
        _table(findings, guess, beside),
        html.section("Protocol", html.sentences(*protocol_words(findings))),
        _provenance(findings),
    ]
    done, planned = len(findings.runs), len(findings.runs) + len(findings.missing)
    scans = ", ".join(Path(one["scan"]["path"]).name for one in findings.record["indexes"])
    under = f"{done} of {planned} runs, trained on {scans}, started {findings.record['created'][:10]}"
    page = html.page(TITLES[findings.record["study"]], under=under, parts=parts)
    page = page.replace("</style>", curves.STYLE + "</style>").replace(
        "</main>", f"<script>{curves.SCRIPT}</script>\n</main>"
    )
    return html.write_page(out, page)


def _guess(findings: Findings) -> Score | None:
    """The guess under the symmetry of the only phase; with several there is none to compare with."""
    phases = {phase for one in findings.record["indexes"] for phase in read_index(one["path"]).phases}
    return guess_score(phases.pop().proper_rotations()) if len(phases) == 1 else None


def _missing(findings: Findings) -> str:
    """The runs that are not in this report."""
    if not findings.missing:
        return ""
    lines = [f"{name}: {why}" for name, why in findings.missing.items()]
    words = "These runs are not in what follows. Give the same `dptrain study` again: it does only what is missing."
    return html.section(f"{len(lines)} runs are missing", html.sentences(words), html.commands(lines))


def _curves(findings: Findings, guess: Score | None, folder: Path) -> str:
    """Every chart to look into, and as PNG for the groups that verdicts rest on."""
    parts = []
    telling = [name for name in JUDGED if not _all_guess(findings, name, guess)] + list(JUDGED)
    groups = list(dict.fromkeys([*telling, *findings.pixel_groups]))
    for chart in study_series.charts(findings, [key for key, _ in CHOICES]):
        parts.append(f"<h3>{chart.title}</h3>")
        parts.append(curves.curve(chart.series, x=chart.x, groups=groups, metrics=CHOICES, joined=chart.joined))
        for group in groups:
            path = folder / f"{chart.title}_{group}.png".replace(" ", "_").replace(",", "")
            draw_curves(path, chart.series, group=group, metric="within_5_deg", x=chart.x, joined=chart.joined)
    words = (
        "Large marks: means over the seeds. Bars: 95 % intervals, from drawing seeds and then grains anew with "
        f"replacement, {RESAMPLES} times; there are none for medians and percentiles, and none with one seed. Small "
        "dots: single seeds."
    )
    return html.section("Curves", *parts, html.caption(words))


def _all_guess(findings: Findings, group: str, guess: Score | None) -> bool:
    within = guess.within_5_deg if guess else 0.0
    return all(is_a_guess(runs, group, within) for runs in findings.settings.values())


def _claims(said: Sequence[Verdict]) -> str:
    rows = [(f"({one.letter}) {one.claim}", one.verdict, one.why, one.figure, one.command) for one in said]
    words = (
        "A claim is confirmed or refuted only when both groups of pixels say so, in every comparison, with the whole "
        "95 % interval on one side of zero (refuted also: within two points of it). All else is undecided here."
    )
    return html.section(
        "The paper's claims",
        html.caption(words),
        html.table(("claim", "verdict", "why", "figure", "command"), rows, n_text=5),
    )


def _maps(findings: Findings, folder: Path) -> str:
    """Disorientation over every scan that was judged whole, of the first seed of each telling setting."""
    pictures: dict[Path, html.Picture] = {}
    runs = {run.trial.kind: run for run in reversed(findings.runs)}
    for one in findings.record["tests"]:
        index = read_index(one["path"])
        group = f"scan {Path(one['scan']['path']).stem}"
        for kind in ("threshold", "exact", "simulated", "network"):
            run = runs.get(kind)
            if run and group in run.scores and run.scores[group]["n_pixels"] == index.phase_id.size:
                for path in draw_maps(folder, run, group=group, shape=index.shape, step_nm=None):
                    pictures[path] = html.Picture(path, path.stem.replace("_", " "))
    if not pictures:
        return ""
    words = "Disorientation from the exact truth. No run has trained on these scans. Lines: true grains."
    return html.section(
        "Maps of scans that no run has seen", html.figures(list(pictures.values())), html.caption(words)
    )


def _table(findings: Findings, guess: Score | None, folder: Path) -> str:
    rows: list[tuple[str, ...]] = []
    sheet: list[tuple[object, ...]] = [SHEET]
    for group in findings.pixel_groups:
        for name, runs in findings.settings.items():
            if any(group in run.scores for run in runs):
                values = {metric: mean(runs, group, metric) for metric in METRICS}
                labels, right = fact(runs, "n_labels"), fact(runs, "label_purity")
                ends = interval(runs, group, "within_5_deg")
                shares = [f"{100 * values[f'within_{limit}_deg']:.1f} %" for limit in (1, 2, 3, 5, 10)]
                angles = [f"{values[key]:.1f}°" for key in ("median_deg", "mean_deg", "p95_deg")]
                costs = [fact(runs, name) for name in COSTS]
                purity = f"{100 * right:.0f} %" if labels else "–"
                rows.append((group, name, str(len(runs)), f"{labels:.0f}", purity, *shares, *angles))
                sheet.append((group, name, len(runs), labels, right, *values.values(), ends.low, ends.high, *costs))
    _write_csv(folder / "settings.csv", sheet)
    note = (
        f"Means over runs; disorientation from the exact truth. Right: training labels within {PURE_DEG:g} degrees of "
        "it. Each run by itself: results.csv; the intervals: settings.csv."
    )
    if guess:
        note += (
            f" A uniform random guess is off by {guess.mean_deg:.1f} degrees on average and within 5 degrees for "
            f"{100 * guess.within_5_deg:.2f} %."
        )
    return html.section("The numbers", html.table(HEAD, rows, n_text=2, groups=True), html.caption(note))


def _provenance(findings: Findings) -> str:
    record = findings.record
    protocol = Protocol.model_validate(record["protocol"])
    facts = [("seeds", ", ".join(map(str, record["seeds"]))), ("preset", protocol.preset)]
    for what, some in (("trained on", record["indexes"]), ("judged on", record["tests"])):
        facts += [
            (what, f"{Path(one['scan']['path']).name}, SHA-256 {one['scan']['sha256']}; map {one['sha256']}")
            for one in some
        ]
    facts.append(("made by", ", ".join(f"{name} {number}" for name, number in record["software"].items())))
    facts.append(("kinds of runs", "; ".join(f"{kind}: {words}" for kind, words in KINDS.items())))
    facts.append(("grains held out", f"seeds hold out {MIN_HELD_OUT_GRAINS} or more"))
    indexes, tests = ([Path(one["path"]).name for one in record[some]] for some in ("indexes", "tests"))
    command = " ".join(
        ["dptrain study", record["study"], *indexes, *(f"--test {name}" for name in tests), f"--{protocol.preset}"]
    )
    default = protocol.seeds == Protocol().seeds
    command += "" if default else f" --seeds {protocol.seeds}"
    lines = [f"{command} --out STUDY", "dptrain report STUDY"]
    whole = html.caption(f"The whole protocol: {protocol.model_dump_json()}")
    return html.section(
        "Where this comes from", html.facts(facts), html.caption("To repeat it:"), html.commands(lines), whole
    )


def _write_csv(path: Path, rows: Sequence[Sequence[object]]) -> None:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    write_aside(path, stream.getvalue().encode())
