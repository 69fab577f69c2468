"""Which curves a study is shown by: accuracy against purity, threshold, number of patterns, or setting by setting."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dptrain.curves import Point, Series
from dptrain.study_numbers import Findings, Run, fact, interval

NAMES = {
    "threshold": "labels above a threshold",
    "random": "as many at random",
    "exact": "the same patterns, exact labels",
    "scan only": "scan without simulated patterns",
    "simulated": "simulated patterns alone",
}


@dataclass(frozen=True)
class Chart:
    """One chart: its title, what lies along x, its series, and whether their points are joined."""

    title: str
    x: str
    series: list[Series]
    joined: bool


def charts(findings: Findings, metrics: Sequence[str]) -> list[Chart]:
    """The charts of a study, each with every one of ``metrics`` over every group of pixels."""
    if findings.record["study"] != "label-quality":
        return [_by_cost(findings, metrics)]
    settings = findings.settings
    by_kind: dict[str, list[list[Run]]] = {}
    for runs in settings.values():
        by_kind.setdefault(_kind(runs[0]), []).append(runs)
    labelled = {name: some for name, some in by_kind.items() if name != NAMES["simulated"]}
    chosen = {name: some for name, some in by_kind.items() if some[0][0].trial.kind in ("threshold", "random", "exact")}

    def purity(runs: list[Run]) -> float:
        return 100 * fact(runs, "label_purity")

    def threshold(runs: list[Run]) -> float:
        return runs[0].trial.min_confidence

    def number(runs: list[Run]) -> float:
        return fact(runs, "n_labels")

    return [
        Chart("accuracy against label purity", "training labels that are right (%)", *_of(labelled, purity, metrics)),
        Chart("accuracy against threshold", "lowest confidence of a label", *_of(chosen, threshold, metrics)),
        Chart("accuracy against number of labels", "training labels from the scan", *_of(by_kind, number, metrics)),
    ]


def _kind(run: Run) -> str:
    return f"exact, some wrong: {run.trial.corruption}" if run.trial.corruption else NAMES[run.trial.kind]


def _of(
    kinds: dict[str, list[list[Run]]], where: Callable[[list[Run]], float], metrics: Sequence[str]
) -> tuple[list[Series], bool]:
    return [
        Series(name, sorted((_point(runs, where(runs), metrics) for runs in some), key=lambda point: point.x))
        for name, some in kinds.items()
    ], True


def _by_cost(findings: Findings, metrics: Sequence[str]) -> Chart:
    """Accuracy against the time that training takes: what is upper left is good."""
    series = [Series(name, [_point(runs, fact(runs, "train_s"), metrics)]) for name, runs in findings.settings.items()]
    return Chart("accuracy against training time", "seconds of training", series, joined=False)


def _point(runs: list[Run], x: float, metrics: Sequence[str]) -> Point:
    values: dict[str, dict[str, tuple[float, float | None, float | None, list[float]]]] = {}
    for group in dict.fromkeys(name for run in runs for name in run.scores):
        values[group] = {}
        for metric in metrics:
            found = interval(runs, group, metric)
            seeds = [float(run.scores[group][metric]) for run in runs if group in run.scores]
            values[group][metric] = (sum(seeds) / len(seeds), found.low, found.high, seeds)
    trial = runs[0].trial
    label = f"{trial.rate:.0%} wrong" if trial.corruption else f"{fact(runs, 'n_labels'):.0f} labels"
    return Point(x, label, values)
