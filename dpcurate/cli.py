"""Command line of dpcurate: a command parses, calls one function and says where the result lies."""

import os
import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer

from dpcurate.datasets_cli import app as datasets_app
from dpcurate.doctor_cli import doctor_command, show_preview
from dpcurate.errors import InputError
from dpcurate.export_cli import export_command
from dpcurate.score_cli import score_command
from dpcurate.simulate_cli import simulate_command, simulate_scan_command

SOURCES = ("own pattern", "neighbours", "dynamics", "overlap")
"""What may have decided a label, in the order of `consensus.OWN_WINNER` and the others."""

INTERRUPTED = 130
"""What typer exits with, and without a word, after Ctrl-C."""

app = typer.Typer(
    name="dpcurate",
    help="Index electron-diffraction scans, say how far each label can be trusted, write labelled datasets.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(datasets_app, name="datasets")
app.command("doctor")(doctor_command)
app.command("export")(export_command)
app.command("score")(score_command)
app.command("simulate")(simulate_command)
app.command("simulate-scan")(simulate_scan_command)


@app.command()
def index(
    scan: Annotated[Path, typer.Argument(help="Anything HyperSpy reads: .hspy, .zspy, .blo, .mib, .emd, .npy ...")],
    phase: Annotated[list[Path] | None, typer.Option(help="CIF file; give it again for each phase.")] = None,
    recipe: Annotated[Path | None, typer.Option(help="TOML recipe; default: dpcurate.toml here, if any.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to create; default: SCAN.index beside the scan.")] = None,
    engine: Annotated[str | None, typer.Option(help="Matching engine: pyxem or fast.")] = None,
    scale: Annotated[float | None, typer.Option(help="1/Å per detector pixel.")] = None,
    center: Annotated[str | None, typer.Option(help="Direct beam as COLUMN,ROW in pixels; default: found.")] = None,
    beam_energy: Annotated[float | None, typer.Option(help="keV.")] = None,
    precession: Annotated[float | None, typer.Option(help="Half-angle in degrees.")] = None,
    spacing: Annotated[float | None, typer.Option(help="Between templates, degrees.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Threads that match; default: one a core.")] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Match on a dask cluster: tcp://HOST:PORT, or its scheduler's file.")
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace an index that is there.")] = False,
    preview: Annotated[
        bool, typer.Option("--preview", help="Match about 400 pixels, write SCAN.preview.png, and nothing else.")
    ] = False,
    preview_every: Annotated[
        int | None, typer.Option(min=1, help="The same with every k-th pixel in both directions.")
    ] = None,
) -> None:
    """Index SCAN by template matching.

    Example: dpcurate index tests/data/demo.hspy --phase datasets/phases/LiNiO2.cif --out demo.index
    """
    from dpcurate.pipeline import index_scan
    from dpcurate.recipe import load_recipe, parse_center
    from dpcurate.workers import Workers

    choices = load_recipe(
        recipe,
        phases=[str(path) for path in phase] if phase else None,
        matching__engine=engine,
        scan__scale_inv_angstrom=scale,
        scan__center_xy=parse_center(center),
        scan__beam_energy_kev=beam_energy,
        scan__precession_deg=precession,
        library__spacing_deg=spacing,
    )
    if preview or preview_every is not None:
        show_preview(scan, choices, every=preview_every, out=out or scan.with_name(scan.stem + ".preview.png"))
        return
    out = out or scan.with_name(scan.stem + ".index")
    who = Workers(threads=workers, scheduler=scheduler)
    result = index_scan(scan, choices, out=out, overwrite=overwrite, workers=who)
    calibration = result.info["calibration"]
    for key, source in calibration["sources"].items():
        typer.echo(f"{key:20} {_shown(calibration[key]):>20}  ({source})")
    if result.info["recalibration"] is not None:
        typer.echo(result.info["recalibration"]["said"])
    if calibration["sources"]["rotation_deg"] == "assumed":
        typer.echo("The turn of the detector against the scan is not known: orientations are in the detector's frame.")
    skipped = {reason: n for reason, n in result.info["skipped"].items() if n}
    typer.echo(f"patterns {result.phase_id.size}, skipped {sum(skipped.values())} {skipped or ''}".rstrip())
    if result.source is not None:
        indexed = result.source[result.phase_id >= 0]
        share = [float((indexed == number).mean()) for number in range(len(SOURCES))] if len(indexed) else [0.0] * 4
        changed = ", ".join(f"{name} {part:.1%}" for name, part in zip(SOURCES, share, strict=True))
        typer.echo(f"labels decided by: {changed}")
    typer.echo(f"confidence 0.8 and above: {(result.confidence >= 0.8).mean():.1%} of the pixels")
    if warning := result.info["spots_explained"]["warning"]:
        typer.echo(warning)
    typer.echo(str(result.folder))


@app.command("build-dataset")
def build_dataset_command(
    indexes: Annotated[list[Path] | None, typer.Argument(help="Index folders; default: the newest here.")] = None,
    min_confidence: Annotated[
        float | None, typer.Option(help="Labels below are left out, 0 to 1; default: 0.8.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Default: the scan's name.")] = None,
    simulated: Annotated[int, typer.Option(help="Simulated patterns with exact labels to add.")] = 0,
    like: Annotated[bool, typer.Option("--like", help="Simulate in the image of the first index's scan.")] = False,
    recipe: Annotated[
        Path | None,
        typer.Option(help="TOML recipe, sections curation and simulation; default: dpcurate.toml here, if any."),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="What is split as a whole: grain, block, region, scan; or random: single pixels.")
    ] = None,
    max_per_grain: Annotated[int | None, typer.Option(help="Keep at most so many labels of a grain.")] = None,
    balance: Annotated[
        float | None,
        typer.Option(help="Keep at most so many times the median cell's labels in each cell of orientation space."),
    ] = None,
    sample: Annotated[int | None, typer.Option(help="Keep so many of the scans' labels, drawn at random.")] = None,
    sample_by: Annotated[
        str | None, typer.Option(help="random; or confidence: equally many of each class of confidence.")
    ] = None,
    order: Annotated[
        str | None, typer.Option(help="Of the stored patterns: scan; or confidence: the most confident first.")
    ] = None,
    patterns_per_shard: Annotated[int | None, typer.Option(help="Patterns in one file; default: 1024.")] = None,
    seed: Annotated[int, typer.Option(help="Of splits, samples and simulation.")] = 0,
    root: Annotated[
        str | None, typer.Option(help="Folder of datasets; default: $DPCURATE_DATASETS or datasets.")
    ] = None,
) -> None:
    """Write a dataset of the labels that can be trusted.

    Example: dpcurate build-dataset demo.index --min-confidence 0.8 --simulated 2000
    """
    from dpcurate.card import leak_sentences
    from dpcurate.curate import build_dataset
    from dpcurate.curation_recipe import BuildingRecipe
    from dpcurate.manifests import read_manifest
    from dpcurate.recipe import read_recipe

    rules: dict[str, object] = {"split": split, "max_per_grain": max_per_grain, "balance": balance}
    rules |= {"sample_by": sample_by, "order": order, "patterns_per_shard": patterns_per_shard}
    given = read_recipe(BuildingRecipe, recipe, **{f"curation__{key}": value for key, value in rules.items()})
    simulation = given.simulation
    folders = indexes or [_newest_index()]
    if not indexes:
        typer.echo(f"index: {folders[0]} (the newest here)")
    if like:
        from dpcurate.lookalike import image_of

        simulation = image_of(folders[0], simulation).recipe
    path = build_dataset(
        folders,
        name=name,
        min_confidence=min_confidence,
        simulated=simulated,
        simulation=simulation,
        rules=given.curation,
        sample=sample,
        seed=seed,
        root=root,
    )
    manifest = read_manifest(path)
    for words, number in manifest.counts.items():
        typer.echo(f"{words:50} {number:9d}")
    for sentence in leak_sentences(manifest.leak):
        typer.echo(sentence)
    typer.echo(str(path))


def _newest_index() -> Path:
    found = [path.parent for path in Path().glob("*.index/index.json")]
    if not found:
        raise InputError("no index given, and none (*.index) in this folder. Make one with `dpcurate index SCAN`.")
    return max(found, key=lambda path: (path / "index.json").stat().st_mtime)


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.5g}"
    return ", ".join(f"{part:.2f}" for part in value) if isinstance(value, (list, tuple)) else str(value)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; a user's error is one sentence on stderr and exit code 2."""
    # OpenMP's threads shall sleep while they wait: spinning makes everything slower on busy cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if not os.environ.get("DPCURATE_WARNINGS"):
        warnings.simplefilter("ignore")
    try:
        app(arguments)
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(2) from None
    except SystemExit as end:
        if end.code == INTERRUPTED:
            sys.stderr.write("interrupted; run the same command again to go on\n")
        raise


if __name__ == "__main__":
    main()
