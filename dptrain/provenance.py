"""Where the numbers of a page come from, and the command lines that make them again."""

import shlex
import tomllib
from importlib.metadata import version
from pathlib import Path

from dpcurate.remote import Folder
from dpcurate.schema import Manifest
from dptrain.report_data import RunEvidence

SOFTWARE = ("dpcurate", "torch", "numpy", "orix", "matplotlib")
"""What decides a page's numbers, besides what made the labels and the dataset."""


def run_facts(run: RunEvidence) -> list[tuple[str, str]]:
    """What a run and its predictions were made of and by, pairs of name and value."""
    manifest, config = run.dataset.manifest, run.config
    rows = [
        ("run", str(run.folder.resolve())),
        (
            "dataset",
            f"{manifest.name}@{manifest.version}, {manifest.n_patterns} patterns, {run.dataset.path.resolve()}",
        ),
        ("patterns", ", ".join(f"{n} {what}" for what, n in manifest.counts.items())),
        ("phases", ", ".join(f"{phase.name} ({phase.point_group})" for phase in manifest.phases)),
        ("microscope", f"{manifest.beam_energy_kev:g} keV, precession {manifest.precession_deg:g} degrees"),
        ("network", _network(run)),
        ("seed", str(config.seed)),
    ]
    for scan in run.scans:
        info = scan.network.info
        rows.append((f"scan {scan.name}", f"{info['scan']['path']}, SHA-256 {info['scan']['sha256']}"))
        rows.append(("prediction", f"{scan.network.folder}, checkpoint SHA-256 {info['checkpoint']['sha256']}"))
        if scan.labels is not None:
            made = scan.labels.info
            rows.append(("labels", f"{scan.labels.folder}, engine {made['engine']}, {_versions(made['software'])}"))
    rows.append(("dataset made by", _versions(manifest.software)))
    rows.append(("page made by", _versions({name: version(name) for name in SOFTWARE})))
    return rows


def repeat_commands(run: RunEvidence) -> list[str]:
    """Command lines from scan to page."""
    lines = []
    for scan in run.scans:
        if scan.labels is not None and scan.labels.folder is not None:
            lines.append(_index_command(scan.labels.info["scan"]["path"], scan.labels.folder))
    config, manifest = run.config, run.dataset.manifest
    lines.append(build_command(manifest, root=run.dataset.path.parent.parent))
    options = {
        "--model": config.model,
        "--dataset": f"{manifest.name}@{manifest.version}",
        "--root": run.dataset.path.resolve().parent.parent,
        "--epochs": config.epochs,
        "--batch-size": config.batch_size,
        "--seed": config.seed,
        "--weights": config.weights,
        "--label-source": None if config.label_source == "label" else config.label_source,
        "--runs": run.folder.parent,
        "--name": run.folder.resolve().name,
    }
    lines.append(_command("dptrain run", **options))
    for scan in run.scans:
        out = {"--recipe": f"{scan.network.folder}/recipe.toml", "--out": scan.network.folder}
        lines.append(
            _command(f"dptrain predict {shlex.quote(str(run.folder))}", scan.network.info["scan"]["path"], **out)
        )
    folders = [scan.network.folder for scan in run.scans if scan.network.folder is not None]
    outside = [folder for folder in folders if folder.parent != run.folder.resolve()]
    lines.append(
        _command("dptrain report", run.folder) + "".join(f" --prediction {shlex.quote(str(path))}" for path in outside)
    )
    return lines


def build_command(manifest: Manifest, *, root: Folder) -> str:
    """The command that builds a dataset again, from what its manifest keeps."""
    recipe = dict(manifest.recipe)
    indexes = recipe.pop("indexes", ())
    folders = indexes if isinstance(indexes, (list, tuple)) else ()
    options = {f"--{key.replace('_', '-')}": value for key, value in recipe.items()}
    return _command(
        "dpcurate build-dataset", *folders, **(options | {"--name": manifest.name, "--root": root.resolve()})
    )


def _index_command(scan: str, folder: Path) -> str:
    recipe = folder / "recipe.toml"
    phases = tomllib.loads(recipe.read_text(encoding="utf-8")).get("phases", []) if recipe.is_file() else []
    named = [word for phase in phases for word in ("--phase", phase)]
    return _command("dpcurate index", scan, *named, **{"--recipe": recipe, "--out": folder})


def _command(start: str, *words: object, **options: object) -> str:
    given = [str(word) for word in words]
    for key, value in options.items():
        if value is not None:
            given += [key, str(value)]
    return " ".join([start, *(shlex.quote(word) for word in given)])


def _network(run: RunEvidence) -> str:
    config = run.config
    steps = int(run.metrics["samples"].sum()) // config.batch_size
    return (
        f"{config.model}, input {config.input.size} pixels wide, up to {config.input.k_max:.3g} 1/Angstrom, "
        f"{config.epochs} epochs, {steps} steps of {config.batch_size} patterns, learning rate {config.learning_rate:g}"
    )


def _versions(software: dict[str, str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in software.items())
