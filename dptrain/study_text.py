"""What a study says, in sentences whose numbers come from its runs."""

from collections.abc import Sequence

import numpy as np

from dptrain.claims import in_points
from dptrain.scores import Score
from dptrain.study_data import HELD_OUT, HELD_PIXELS
from dptrain.study_numbers import Findings, Run, against_labels, fact, interval, is_a_guess, mean, words_of
from dptrain.study_plan import KINDS, MIN_HELD_OUT_GRAINS, Protocol
from dptrain.study_scores import Interval
from dptrain.study_trial import PURE_DEG


def summary(findings: Findings, guess: Score | None) -> list[str]:
    """Five sentences with numbers; fewer where runs are missing."""
    guessed = guess.within_5_deg if guess else 0.0
    best = [_scope(findings), *_learning(findings)]
    if findings.record["study"] == "label-quality":
        best += [*_own_labels(findings), *_wrong_labels(findings)]
    return [*best, *_two_splits(findings, guessed)]


def percent(one: Interval) -> str:
    """A share with its interval where there is one."""
    if one.low is None or one.high is None:
        return f"{100 * one.value:.1f} %"
    return f"{100 * one.value:.1f} % [{100 * one.low:.1f}, {100 * one.high:.1f}]"


def _scope(findings: Findings) -> str:
    shown = fact(findings.runs, "steps") * findings.record["protocol"]["batch_size"]
    seeds = len({run.trial.seed for run in findings.runs})
    interval_words = "" if seeds > 1 else " With one seed nothing is known of chance, and no interval is given."
    return (
        f"{len(findings.runs)} runs of {len(findings.settings)} settings with {seeds} seed{'s' * (seeds != 1)} each "
        f"saw about {shown:,.0f} patterns apiece; shares are of pixels within 5 degrees of the exact truth, with 95 % "
        f"intervals in brackets.{interval_words}"
    )


def _main(findings: Findings) -> dict[str, list[Run]]:
    """The settings that sentences compare: all labels, the highest threshold, exact ones; or every network."""
    if findings.record["study"] != "label-quality":
        return findings.settings
    labels, exact = findings.some("threshold"), findings.some("exact")
    chosen = dict(list(labels.items())[:1] + list(labels.items())[1:][-1:] + list(exact.items())[:1])
    return chosen


def _learning(findings: Findings) -> list[str]:
    said = [
        f"{words_of(runs[0].trial)}: {percent(interval(runs, HELD_PIXELS, 'within_5_deg'))}"
        + (f" ({100 * fact(runs, 'label_purity'):.0f} % of labels right)" if fact(runs, "n_labels") else "")
        for runs in _main(findings).values()
        if any(HELD_PIXELS in run.scores for run in runs)
    ]
    return [f"On unseen pixels of grains that were trained on: {'; '.join(said)}."] if said else []


def _own_labels(findings: Findings) -> list[str]:
    """Whether a network is better than the labels it learnt from."""
    everything = next(iter(findings.some("threshold").values()), None)
    if not everything or not any(HELD_PIXELS in run.scores for run in everything):
        return []
    labels = mean(everything, HELD_PIXELS, "label_within_5_deg")
    gain = against_labels(everything, HELD_PIXELS)
    words = {1: "it beat its own labels", -1: "it did not reach its own labels", 0: "which does not decide it"}
    return [
        f"There the labels of template matching themselves are right for {100 * labels:.1f} %, and the network trained "
        f"on all of them differs by {in_points(gain)}: {words[gain.sign]}."
    ]


def _wrong_labels(findings: Findings) -> list[str]:
    """What labels that are wrong on purpose give, and whether the network is right more often than they are."""
    wrong = findings.some("corrupted")
    if not wrong:
        return []
    most = max(runs[0].trial.rate for runs in wrong.values())
    said = []
    for runs in wrong.values():
        if runs[0].trial.rate == most and any(HELD_PIXELS in run.scores for run in runs):
            found, right = interval(runs, HELD_PIXELS, "within_5_deg"), fact(runs, "label_purity")
            beaten = found.low is not None and found.low > right
            said.append(f"{runs[0].trial.corruption}: {percent(found)}{', better than its labels' if beaten else ''}")
    return [f"With {most:.0%} of exact labels made wrong, on the same pixels: {'; '.join(said)}."] if said else []


def _two_splits(findings: Findings, guessed: float) -> list[str]:
    """The paper's random split beside the grain-wise one."""
    chosen = [run for runs in _main(findings).values() for run in runs if {HELD_OUT, HELD_PIXELS} <= set(run.scores)]
    if not chosen:
        return []
    pixels, grains = (mean(chosen, group, "within_5_deg") for group in (HELD_PIXELS, HELD_OUT))
    known = [runs for runs in _main(findings).values() if not is_a_guess(runs, HELD_OUT, guessed)]
    limit = (
        ""
        if known
        else f" No network can be told there from a random guess ({100 * guessed:.2f} %), so this study says nothing "
        "about new grains."
    )
    return [
        f"Over these settings a random split of pixels, as the paper has it, gives {100 * pixels:.1f} %, and a split "
        f"by grains {100 * grains:.1f} %: {100 * (pixels - grains):.1f} points apart.{limit}"
    ]


def protocol_words(findings: Findings) -> Sequence[str]:
    """How the study was made, in plain sentences."""
    record = findings.record
    protocol = Protocol.model_validate(record["protocol"])
    steps = sorted({run.facts["steps"] for run in findings.runs})
    held = [run.scores[HELD_OUT] for run in findings.runs if HELD_OUT in run.scores]
    grains = sorted({one["n_grains"] for one in held})
    turned = protocol.options.get("augment", {}).get("turn", True)
    kinds = dict.fromkeys(run.trial.kind for run in findings.runs)
    sentences = [
        f"Kinds of runs: {'; '.join(f'{kind}: {KINDS[kind]}' for kind in kinds)}. {record['why']} Right means within "
        f"{PURE_DEG:g} degrees of the exact truth; the share counts training labels of scans, not simulated ones.",
        record.get("labels", ""),
        f"Simulated patterns: {protocol.simulated} with exact labels, uniform over the symmetry zone, the same for all "
        "runs of a seed.",
        "Grains are split by the exact truth, so that no true grain is both trained on and judged as new. Of all "
        f"pixels {protocol.pixels_held_out:.0%}, drawn at random, are trained on by no run of a seed: those of trained "
        "grains are what the paper's random split measures. Split, sample and network change with the seed; all runs "
        "of a seed are judged on the same pixels. Seeds are the first, from 0, that hold out "
        f"{MIN_HELD_OUT_GRAINS} grains or more, or those that hold out most.",
        f"New grains in a run: {grains[0]} to {grains[-1]}; the pixels of a grain share its orientation, so grains are "
        "the independent cases."
        if grains
        else "",
        f"Every run was to show {protocol.steps * protocol.batch_size:,} patterns; whole epochs made it {steps[0]} to "
        f"{steps[-1]} steps. The network after the last step is judged, whatever the validation said. Settings besides "
        f"a network's own: {protocol.options or 'none'}.",
        ""
        if turned
        else "Training patterns were not turned or mirrored. That makes a short training learn the orientations that "
        "its labels hold, and those only: what is said about unseen pixels of trained grains must not be carried over "
        "to new grains.",
    ]
    mean_s = float(np.mean([run.facts["train_s"] for run in findings.runs]))
    return [*sentences, f"Training took {mean_s:.0f} seconds a run on average."]
