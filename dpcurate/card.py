"""The card of a dataset: what it holds, where that came from, how far to trust it, how to make it again."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpcurate.orientations import disorientation_deg
from dpcurate.recipe import OFF, CurationRecipe, recipe_toml
from dpcurate.schema import CONDITIONS, SPLITS, Leak, Manifest, PhaseRecord, Record, Source
from dpcurate.simulation_plan import SimulationPlan
from dpcurate.truth import INSIDE_WEIGHT

WITHIN_DEG = (1, 3, 5, 10)
"""Angles at which label accuracy is told."""

BINS = 10
BAR_WIDTH = 40

AS_RECORDED = (
    "Patterns are stored as they were recorded. Where indexing moved patterns so that their direct beams were at one "
    "place, their labels are of the moved ones, and the patterns here are not moved."
)

SPLIT_WORDS = {
    "grain": "Whole grains: a grain never spans two splits.",
    "block": "Square blocks of the maps: a grain may span two splits.",
    "region": "Whole grains, those of a split side by side in one region of the map: a grain never spans two splits.",
    "scan": "Whole scans.",
    "random": "Pixel by pixel, for comparison only: a grain spans the splits; accuracy on test says nothing of others.",
}

Labels = Mapping[str, NDArray[Any]]


class _Sections(Record):
    """Sections of a recipe that decide what is simulated, in each what is not as usual."""

    curation: dict[str, object] | None = None
    scan: dict[str, object] | None = None
    simulation: dict[str, object] | None = None
    virtual_scan: dict[str, object] | None = None


def card_text(manifest: Manifest, labels: Labels) -> str:
    """Markdown text of the card; ``labels`` as in ``schema.LABELS``, in the order of the patterns."""
    shape, dtype = manifest.arrays["patterns"].shape, manifest.arrays["patterns"].dtype
    sections = [
        f"# {manifest.name}@{manifest.version}",
        f"{manifest.n_patterns} patterns of {shape[1]} x {shape[2]} pixels ({dtype}), "
        f"{manifest.beam_energy_kev:g} keV, precession {manifest.precession_deg:g} degrees. Made {manifest.created} by "
        + ", ".join(f"{name} {version}" for name, version in manifest.software.items())
        + ".",
        "## Phases\n\n" + _phases(manifest.phases, labels),
        f"## Where it came from\n\n{AS_RECORDED}\n\n" + _sources(manifest.sources, labels),
        "## Kept and dropped\n\n" + _counts(manifest.counts) + _order(manifest),
        f"## Splits\n\n{SPLIT_WORDS[rules_of(manifest).split]}\n\n" + _splits(labels),
        *_leak(manifest.leak),
        *_labels_of_scans(manifest, labels),
        *_simulated(labels),
        "## How to make it again\n\n" + _again(manifest),
        "## Licence\n\n" + _licence(rules_of(manifest)),
    ]
    return "\n\n".join(sections) + "\n"


def label_error_deg(phases: Sequence[PhaseRecord], labels: Labels) -> NDArray[np.float64]:
    """Disorientation of each label from the exact orientation, degrees, shape ``(n,)``; NaN where that is unknown.

    The symmetry is that of the labelled phase.
    """
    error = np.full(len(labels["phase_id"]), np.nan)
    known = np.isfinite(labels["true_orientation"]).all(axis=1)
    for number, phase in enumerate(phases):
        here = known & (labels["phase_id"] == number)
        error[here] = disorientation_deg(
            labels["orientation"][here], labels["true_orientation"][here], phase.proper_rotations()
        )
    return error


def _phases(phases: Sequence[PhaseRecord], labels: Labels) -> str:
    rows = [
        (
            phase.name,
            phase.space_group,
            " ".join(f"{value:g}" for value in phase.lattice),
            np.sum(labels["phase_id"] == i),
        )
        for i, phase in enumerate(phases)
    ]
    return _table(("phase", "space group", "cell (Angstrom, degrees)", "patterns"), rows)


def _sources(sources: Sequence[Source], labels: Labels) -> str:
    rows = [
        (
            source.kind,
            source.scan_path or "",
            (source.scan_sha256 or "")[:12],
            source.index_path or "",
            (source.index_sha256 or "")[:12],
            source.note,
            np.sum(labels["source"] == number),
        )
        for number, source in enumerate(sources)
    ]
    return _table(("kind", "scan", "SHA-256", "index", "SHA-256", "note", "patterns"), rows)


def _splits(labels: Labels) -> str:
    real = labels["pixel"][:, 0] >= 0
    rows = []
    for number, name in enumerate(SPLITS):
        here = labels["split"] == number
        grains = np.stack([labels["source"], labels["grain_id"]])[:, here & real]
        rows.append((name, np.sum(here), np.sum(here & real), np.unique(grains, axis=1).shape[1]))
    return _table(("split", "patterns", "of scans", "grains"), rows)


def _counts(counts: Mapping[str, int]) -> str:
    """What each rule took, and what it left."""
    left, rows = counts.get("pixels of the scans", 0), []
    for words, number in counts.items():
        left -= number if words.startswith("dropped") else 0
        rows.append((words, number, left if words.startswith("dropped") else ""))
    return _table(("what", "patterns", "left after it"), rows)


def rules_of(manifest: Manifest) -> CurationRecipe:
    """The rules by which a dataset was built; the usual ones where it does not say."""
    settings = manifest.recipe.get("settings")
    given = settings.get("curation") if isinstance(settings, dict) else None
    return CurationRecipe.model_validate(given or {})


def _order(manifest: Manifest) -> str:
    if rules_of(manifest).order != "confidence":
        return ""
    return "\n\nPatterns of scans are stored by falling confidence of their labels, simulated ones after them."


def _leak(leak: Leak | None) -> list[str]:
    """What the splits share; nothing where no pattern is of a scan."""
    if leak is None:
        return []
    rows = [
        (
            name,
            split.patterns,
            split.same_grain,
            split.touching,
            split.identical,
            f"{split.near_duplicates} of {split.judged}" if leak.similarity is not None else "not judged",
            split.look_alikes if leak.similarity is not None else "",
        )
        for name, split in leak.splits.items()
    ]
    head = ("split", "of scans", "grain is trained on", "touch a training pixel", "identical to a training pattern")
    table = _table((*head, "near-duplicates of one", "of these, other orientation"), rows)
    return ["## What test shares with training\n\n" + "\n\n".join([*leak_sentences(leak), table])]


def leak_sentences(leak: Leak | None) -> list[str]:
    """What was found of near-duplicates across splits, in words; nothing where no pattern is of a scan."""
    if leak is None:
        return []
    if leak.similarity is None:
        return ["Near-duplicates were not judged: no two touching pixels of one grain are in the dataset."]
    said = ", ".join(
        f"{split.near_duplicates} of {split.judged} patterns ({100 * split.near_duplicates / split.judged:.1f} %)"
        + f" in {name}"
        for name, split in leak.splits.items()
        if split.judged
    )
    alike = sum(split.look_alikes for split in leak.splits.values())
    return [
        f"Near-duplicates of training patterns: {said or 'none, for nothing else is of scans'}; {alike} of them are "
        "most like a pattern whose label is another phase or over 10 degrees away.",
        f"A near-duplicate correlates with a training pattern ({leak.training} of {leak.training_patterns} were "
        f"compared) by {leak.similarity:.3f} or more, the median of {leak.pairs} pairs of neighbours inside grains.",
    ]


def _licence(curation: CurationRecipe) -> str:
    return curation.license or "To be stated by whoever owns the scans: ____ (`curation.license` of the recipe)"


def _labels_of_scans(manifest: Manifest, labels: Labels) -> list[str]:
    """How far the labels of scans can be trusted; nothing where there are none."""
    if not (labels["pixel"][:, 0] >= 0).any():
        return []
    return [
        "## Confidence of the labels\n\n" + _histogram(labels),
        "## Accuracy of the labels\n\n" + _accuracy(manifest.phases, labels),
    ]


def _simulated(labels: Labels) -> list[str]:
    """What the simulated patterns were taken under; nothing where there are none."""
    values = labels["conditions"][labels["draw"] >= 0]
    if not len(values):
        return []
    rows = [
        (name, *(f"{part:.4g}" for part in np.quantile(column, (0, 0.5, 1))))
        for name, column in zip(CONDITIONS, values.T, strict=True)
        if name != "instrument"
    ]
    text = f"{len(values)} patterns with exact labels. What they were taken under, units in the names:\n\n"
    return ["## Simulated patterns\n\n" + text + _table(("condition", "lowest", "median", "highest"), rows)]


def _histogram(labels: Labels) -> str:
    confidence = labels["confidence"][labels["pixel"][:, 0] >= 0]
    count, edge = np.histogram(confidence, bins=BINS, range=(0, 1))
    widest = max(int(count.max()), 1)
    rows = [
        (f"{edge[i]:.1f} to {edge[i + 1]:.1f}", number, "#" * round(BAR_WIDTH * int(number) / widest))
        for i, number in enumerate(count)
    ]
    return "Patterns of scans only.\n\n" + _table(("confidence", "patterns", ""), rows)


def _accuracy(phases: Sequence[PhaseRecord], labels: Labels) -> str:
    error = label_error_deg(phases, labels)
    known = np.isfinite(error) & (labels["pixel"][:, 0] >= 0)
    if not known.any():
        return "Unknown: there is no exact truth beside the scans."
    rows = []
    for what, here in (("all", known), ("inside grains", known & (labels["true_weight"] > INSIDE_WEIGHT))):
        if here.any():
            share = [f"{100 * np.mean(error[here] <= angle):.1f} %" for angle in WITHIN_DEG]
            rows.append((what, np.sum(here), *share, f"{np.median(error[here]):.2f} degrees"))
    head = ("patterns of scans", "number", *(f"within {angle} degrees" for angle in WITHIN_DEG), "median")
    return "Disorientation from the exact truth that lies beside the scans.\n\n" + _table(head, rows)


def _again(manifest: Manifest) -> str:
    """The command that makes the dataset again, and the recipe that it needs where a simulation was not as usual."""
    recipe = manifest.recipe
    command = ["dpcurate", str(recipe.get("command", "build-dataset"))]
    indexes = recipe.get("indexes", ())
    command += [str(folder) for folder in indexes] if isinstance(indexes, (list, tuple)) else []
    for key, value in recipe.items():
        if key not in ("command", "indexes", "settings") and value is not None:
            for one in value if isinstance(value, (list, tuple)) else [value]:
                command += [f"--{key.replace('_', '-')}", str(one)]
    first, settings = "", _settings(manifest)
    if settings:
        command += ["--recipe", f"{manifest.name}.toml"]
        first = f"With this saved as {manifest.name}.toml:\n\n```toml\n{settings}```\n\n"
    last = "\n\nThe key `simulation` of manifest.json holds every setting of the simulation."
    return f"{first}```console\n{shlex.join(command)}\n```{last if manifest.simulation else ''}"


def _settings(manifest: Manifest) -> str:
    """TOML of what was asked for otherwise than usual; empty where there is nothing."""
    given = manifest.recipe.get("settings")
    if not isinstance(given, dict) and manifest.simulation is None:
        return ""
    if not isinstance(given, dict):
        plan = SimulationPlan.model_validate(manifest.simulation)
        given = {"simulation": plan.recipe.model_dump(mode="json", exclude_defaults=True)}
    sections = {name: _without_none(section) for name, section in given.items() if section}
    return recipe_toml(_Sections.model_validate(sections)).lstrip() if sections else ""


def _without_none(value: object) -> object:
    """Settings with the word of a recipe for None."""
    if isinstance(value, dict):
        return {key: _without_none(inner) for key, inner in value.items()}
    return OFF if value is None else value


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *([str(cell).replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
