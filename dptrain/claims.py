"""What the paper claims, and what a study says to it: confirmed, refuted, or undecided here, because."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from dptrain.study_choices import COMPARED, DENIES
from dptrain.study_numbers import JUDGED, MARGIN, WORDS, Findings, Run, against, is_a_guess
from dptrain.study_scores import MIN_SEEDS, Interval

CONFIRMED, REFUTED, UNDECIDED = "confirmed", "refuted", "undecided here"

CLAIMS = {
    "a": "DenseNet and Swin beat the CNN",
    "b": "the adjusted Swin is best overall",
    "c": "pretraining helps",
    "d": "sorting or filtering labels by confidence improves accuracy",
    "e": "an intermediate batch size with exponential decay is stable and fast",
    "f": "output clamping does not help",
    "g": "larger kernels do not help",
    "h": "networks are much faster than template matching",
    "i": "boundaries are sharp, grains coherent, overlap and dynamical effects are seen",
    "j": "simulated labels reduce the uncertainty of indexing",
    "k": "thickness matters",
}

ELSEWHERE = {
    "a": "dptrain study architectures",
    "b": "dptrain study architectures",
    "c": "dptrain study architectures",
    "d": "dptrain study label-quality",
    "e": "dptrain study choices",
    "f": "dptrain study choices",
    "g": "dptrain study choices",
    "h": "dptrain study conditions",
    "i": "dptrain study architectures",
    "j": "dptrain study label-quality",
    "k": "dptrain study conditions",
}
"""The command whose study speaks about a claim."""


@dataclass(frozen=True)
class Verdict:
    """What one study says to one claim."""

    letter: str
    verdict: str
    why: str
    figure: str = ""

    @property
    def claim(self) -> str:
        """The claim's words."""
        return CLAIMS[self.letter]

    @property
    def command(self) -> str:
        """Which command decides it."""
        return ELSEWHERE[self.letter]


def verdicts(findings: Findings, guess_within_5: float) -> list[Verdict]:
    """Every claim with what this study says to it; ``guess_within_5`` is the share that a random guess gives."""
    asked: dict[str, dict[str, Callable[[Findings, float], Verdict]]] = {
        "label-quality": {"d": _filtering, "j": _simulated},
        "architectures": {"a": _larger_networks, "b": _adjusted, "c": _pretrained},
        "choices": {letter: functools.partial(_choice, letter=letter) for letter in COMPARED},
    }
    own = asked.get(findings.record["study"], {})
    return [
        own[letter](findings, guess_within_5) if letter in own else _not_asked(letter, findings.record["study"])
        for letter in CLAIMS
    ]


def decide(
    letter: str, pairs: Mapping[str, tuple[Sequence[Run], Sequence[Run]]], *, guess_within_5: float, figure: str
) -> Verdict:
    """The verdict on "the first of each pair is better", over all pairs and both groups of pixels.

    Confirmed when every interval of every pair lies above zero on both groups; refuted when on both groups every one
    lies below zero, or within ``MARGIN`` of it. All else is undecided, and so is a group on which neither network can
    be told from a guess, and fewer than two seeds.
    """
    if not pairs:
        return Verdict(letter, UNDECIDED, "because the runs that it takes are missing or were not asked for.")
    said, found = [], []
    for group in JUDGED:
        one, words = _on_group(pairs, group, guess_within_5=guess_within_5)
        found.append(one)
        said.append(f"On {WORDS[group]}: {words}")
    verdict = found[0] if len(set(found)) == 1 else UNDECIDED
    because = "because the two groups of pixels do not say the same. " if len(set(found)) > 1 else ""
    if len(set(found)) == 1 and verdict == UNDECIDED:
        because = "because neither group of pixels decides it. "
    return Verdict(letter, verdict, because + " ".join(said), figure)


def _on_group(
    pairs: Mapping[str, tuple[Sequence[Run], Sequence[Run]]], group: str, *, guess_within_5: float
) -> tuple[str, str]:
    """Verdict and words on one group of pixels."""
    if all(is_a_guess(one, group, guess_within_5) for pair in pairs.values() for one in pair):
        return UNDECIDED, "no network can be told from a random guess after this training, so nothing can be said."
    found = {name: against(*pair, group) for name, pair in pairs.items()}
    known = {name: one for name, one in found.items() if one is not None}
    if len(known) < len(found):
        return UNDECIDED, "runs of the same seed are missing."
    words = "; ".join(f"{name} {in_points(one)}" for name, one in known.items())
    if any(one.low is None for one in known.values()):
        return UNDECIDED, f"{words}; fewer than {MIN_SEEDS} seeds, so no interval."
    signs = {one.sign for one in known.values()}
    if signs == {1}:
        return CONFIRMED, f"{words}: better every time."
    if signs == {-1}:
        return REFUTED, f"{words}: worse every time."
    if all(abs(one.low or 0) < MARGIN and abs(one.high or 0) < MARGIN for one in known.values()):
        return REFUTED, f"{words}: the same to within {100 * MARGIN:.0f} points."
    return UNDECIDED, f"{words}: the intervals do not decide."


def in_points(one: Interval) -> str:
    """A difference of shares as percentage points, with its interval where there is one."""
    if one.low is None or one.high is None:
        return f"{100 * one.value:+.1f} points"
    return f"{100 * one.value:+.1f} points [{100 * one.low:+.1f}, {100 * one.high:+.1f}]"


def _filtering(findings: Findings, guess: float) -> Verdict:
    chosen = findings.some("threshold")
    lowest = min(chosen, key=lambda name: chosen[name][0].trial.min_confidence, default="")
    pairs = {
        f"labels above {runs[0].trial.min_confidence:g} against all": (runs, chosen[lowest])
        for name, runs in chosen.items()
        if name != lowest
    }
    return decide("d", pairs, guess_within_5=guess, figure="accuracy against threshold")


def _simulated(findings: Findings, guess: float) -> Verdict:
    settings = findings.settings
    both = next((runs for runs in findings.some("threshold").values() if not runs[0].trial.min_confidence), None)
    alone = settings.get("scan-only")
    pairs = {"scan and simulated patterns against the scan alone": (both, alone)} if both and alone else {}
    return decide("j", pairs, guess_within_5=guess, figure="accuracy against label purity")


def _larger_networks(findings: Findings, guess: float) -> Verdict:
    networks = _networks(findings)
    pairs = {
        f"{name} against cnn": (runs, networks["cnn"])
        for name, runs in networks.items()
        if name.startswith(("densenet", "swin")) and "pretrained" not in name and "cnn" in networks
    }
    return decide("a", pairs, guess_within_5=guess, figure="accuracy against training time")


def _adjusted(findings: Findings, guess: float) -> Verdict:
    networks = _networks(findings)
    best = networks.get("swin-tiny-adjusted-pretrained") or networks.get("swin-tiny-adjusted")
    pairs = {
        f"adjusted Swin against {name}": (best, runs)
        for name, runs in networks.items()
        if best and "adjusted" not in name
    }
    return decide("b", pairs, guess_within_5=guess, figure="accuracy against training time")


def _pretrained(findings: Findings, guess: float) -> Verdict:
    networks = _networks(findings)
    pairs = {
        f"{name} against the same from random weights": (runs, networks[name.removesuffix("-pretrained")])
        for name, runs in networks.items()
        if name.endswith("-pretrained") and name.removesuffix("-pretrained") in networks
    }
    return decide("c", pairs, guess_within_5=guess, figure="accuracy against training time")


def _choice(findings: Findings, guess: float, *, letter: str) -> Verdict:
    chosen = {runs[0].trial.setting: runs for runs in findings.some("setting").values()}
    wanted = COMPARED[letter]
    pairs = {
        f"{first} against {second}": (chosen[first], chosen[second])
        for first, second in wanted
        if first in chosen and second in chosen
    }
    if len(pairs) < len(wanted):
        pairs = {}
    found = decide(letter, pairs, guess_within_5=guess, figure="accuracy against training time")
    if letter not in DENIES:
        return found
    return replace(found, verdict={CONFIRMED: REFUTED, REFUTED: CONFIRMED}.get(found.verdict, found.verdict))


def _networks(findings: Findings) -> dict[str, list[Run]]:
    return {runs[0].trial.model: runs for runs in findings.some("network").values()}


def _not_asked(letter: str, study: str) -> Verdict:
    if ELSEWHERE[letter].endswith(f" {study}"):
        return Verdict(letter, UNDECIDED, "because this study does not yet compare what the claim is about.")
    return Verdict(letter, UNDECIDED, f"because this study does not ask it; `{ELSEWHERE[letter]}` is meant to.")
