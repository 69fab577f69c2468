"""A network's card: what it was trained on, how far its labels could be trusted, what it reached, where it ends."""

import csv
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from dpcurate.errors import InputError
from dpcurate.schema import SPLITS
from dpcurate.store import Dataset, open_dataset
from dptrain.checkpoint import Predictor, write_aside
from dptrain.evaluate import RECORD, SUFFIX
from dptrain.runs import METRICS_FILE

CARD = "model_card.md"

CONVENTIONS = {
    "orientation": "lab to crystal, unit quaternion (w, x, y, z); a crystal vector v lies at R(g)^T v in the lab",
    "lab": "x right along columns, y down along rows, electrons along -z; of the detector as its patterns are stored",
    "crystal": "x along a, z along c*",
    "symmetry": "operations multiply from the left; s * g is the same orientation, s in the proper Laue group",
    "scattering vector": "q_x = (column - center_x) * scale, q_y = (row - center_y) * scale, 1/Angstrom without 2 pi",
}

LIMITS = (
    "It knows its phases only: a pattern of anything else also gets an answer.",
    "Its confidence ranks its own answers; it is no probability of being right on scans unlike those trained on.",
    "Wrong labels that agree with one another are learnt like right ones.",
    "Beam energy and precession are not given to it: at others than those of its data it was not tried.",
)


def write_card(predictor: Predictor, file: Path, out: Path) -> Path:
    """Write the card of the network in ``file`` at ``out``; InputError when it cannot be written."""
    write_aside(out, card(predictor, file).encode())
    return out


def card(predictor: Predictor, file: Path) -> str:
    """The card of the network in ``file`` as Markdown."""
    config = predictor.config
    dataset = _dataset(predictor)
    phases = ", ".join(f"{phase.name} (space group {phase.space_group})" for phase in predictor.phases)
    weights = sum(weight.numel() for weight in predictor.network.parameters())
    parts = [
        f"# {config.model}, {file.resolve().parent.name}",
        _table(
            {
                "checkpoint": f"`{file.name}`, SHA-256 `{_sha256(file)}`",
                "weights": f"{weights:,}",
                "phases": phases,
                "frame": f"{config.input.size} pixels, up to {config.input.k_max} 1/Å, power {config.input.power}",
                "seed": str(config.seed),
            }
        ),
        "## Data",
        _data(predictor, dataset),
        "## Labels",
        _labels(predictor, dataset),
        "## Conventions",
        _table(CONVENTIONS),
        "## Scores",
        _scores(file),
        "## Limits",
        "\n".join(f"- {sentence}" for sentence in LIMITS),
    ]
    return "\n\n".join(parts) + "\n"


def _table(rows: dict[str, str]) -> str:
    return "\n".join(["| | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows.items())])


def _dataset(predictor: Predictor) -> Dataset | None:
    """The dataset that a network was trained on, if it is still there."""
    reference = predictor.config.dataset
    try:
        found = open_dataset(reference.path) if reference is not None else None
    except InputError:
        return None
    return (
        found if found is not None and reference is not None and found.manifest.version == reference.version else None
    )


def _data(predictor: Predictor, dataset: Dataset | None) -> str:
    reference = predictor.config.dataset
    if reference is None:
        return "The checkpoint does not say on which dataset it was trained."
    name = f"Dataset {reference.name}@{reference.version}"
    if dataset is None:
        return f"{name}, which is no longer at {reference.path}: nothing more is known of it."
    manifest = dataset.manifest
    split, drawn = dataset.read("split"), dataset.read("draw") >= 0
    counts = [f"{name} {int((split == number).sum())}" for number, name in enumerate(SPLITS)]
    sources = sorted({source.scan_path or source.note or source.kind for source in manifest.sources})
    return (
        f"{name}: {manifest.n_patterns} patterns ({', '.join(counts)}; {int(drawn.sum())} simulated), "
        f"{manifest.beam_energy_kev:g} keV, precession {manifest.precession_deg:g}°. "
        f"Sources: {'; '.join(Path(source).name for source in sources)}."
    )


def _labels(predictor: Predictor, dataset: Dataset | None) -> str:
    if predictor.config.label_source == "truth":
        return "It was trained on exact orientations."
    if dataset is None:
        return "The dataset is gone, so how far its labels could be trusted is not known."
    learnt = (dataset.read("split") == SPLITS.index("train")) & (dataset.read("pixel").min(axis=1) >= 0)
    if not learnt.any():
        return "It was trained on simulated patterns alone; their labels are exact."
    low, middle, high = np.quantile(dataset.read("confidence")[learnt], (0.1, 0.5, 0.9))
    return (
        f"Labels of {int(learnt.sum())} training patterns of scans have confidence {middle:.2f} (median; "
        f"{low:.2f} to {high:.2f} from the first to the last tenth). Labels of simulated patterns are exact."
    )


def _scores(file: Path) -> str:
    parts = [part for part in (_validation(file.parent / METRICS_FILE), *_evaluations(file)) if part]
    return "\n\n".join(parts) or "None lie beside the checkpoint. Make some with `dptrain evaluate`."


def _validation(path: Path) -> str:
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(stream)]
        best = min(rows, key=lambda row: row["validation_loss"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return (
        f"Validation, epoch {best['epoch']:.0f} of {rows[-1]['epoch']:.0f}, against labels: median "
        f"{best['label_median_deg']:.2f}°, within 3° {100 * best['label_within_3_deg']:.1f} %."
    )


def _evaluations(file: Path) -> list[str]:
    """One paragraph for each evaluation of this network beside it."""
    told, digest = [], _sha256(file)
    for path in sorted(file.parent.glob(f"*{SUFFIX}/{RECORD}")):
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["checkpoint"]["sha256"] == digest:
            data = record["dataset"]
            lines = [f"{data['name']}@{data['version']}, {data['split']}:", ""]
            lines += [f"- {_said(row)}" for row in record["scores"] if row["by"] == "all"]
            told.append("\n".join(lines))
    return told


def _said(row: dict[str, Any]) -> str:
    low, high = row["median_deg_low"], row["median_deg_high"]
    ends = "" if low is None else f" (95 % interval over grains {low:.2f} to {high:.2f})"
    return (
        f"{row['population']}: {row['n_patterns']} patterns of {row['n_grains']} grains, "
        f"median {row['median_deg']:.2f}°{ends}, within 3° {100 * row['within_3_deg']:.1f} %"
    )


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
