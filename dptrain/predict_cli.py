"""Commands that need scans or indexes: predict, report; and those of studies. The command line mounts them."""

from pathlib import Path
from typing import Annotated

import typer

from dptrain.extras import require
from dptrain.study_cli import study_app

Scale = Annotated[float | None, typer.Option(help="1/Å per detector pixel.")]
Center = Annotated[str | None, typer.Option(help="Direct beam as COLUMN,ROW in pixels; default: found.")]


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.command()(predict)
    app.command()(report)
    app.add_typer(study_app, name="study")


def predict(
    checkpoint: Annotated[Path, typer.Argument(help="A run's folder, or a checkpoint file.")],
    scan: Annotated[Path, typer.Argument(help="Anything HyperSpy reads: .hspy, .zspy, .blo, .mib, .emd, .npy ...")],
    out: Annotated[Path | None, typer.Option(help="Folder to create; default: SCAN.predicted in the run.")] = None,
    recipe: Annotated[Path | None, typer.Option(help="TOML recipe; default: dpcurate.toml here, if any.")] = None,
    scale: Scale = None,
    center: Center = None,
    beam_energy: Annotated[float | None, typer.Option(help="keV.")] = None,
    precession: Annotated[float | None, typer.Option(help="Half-angle in degrees.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    overwrite: Annotated[bool, typer.Option(help="Replace a prediction that is there.")] = False,
    refine: Annotated[
        bool, typer.Option("--refine", help="Let matching climb from the network's answers to what fits each pattern.")
    ] = False,
    average: Annotated[
        bool,
        typer.Option("--average", help="Show each pattern turned and mirrored too, and take the mean; 8 times slower."),
    ] = False,
) -> None:
    """Predict the orientation map of SCAN with a trained network; needs the extra [curate].

    Example: dptrain predict runs/demo-cnn-0 tests/data/demo.hspy
    """
    require("predict", "hyperspy", "pyxem", "orix")
    from dpcurate.recipe import load_recipe, parse_center
    from dptrain.predict import predict_scan

    choices = load_recipe(
        recipe,
        scan__scale_inv_angstrom=scale,
        scan__center_xy=parse_center(center),
        scan__beam_energy_kev=beam_energy,
        scan__precession_deg=precession,
    )
    result = predict_scan(
        checkpoint, scan, choices, out=out, overwrite=overwrite, device=device, refine=refine, average=average
    )
    if result.info["calibration"]["sources"]["rotation_deg"] == "assumed":
        typer.echo("The turn of the detector against the scan is not known: orientations are in the detector's frame.")
    skipped = {reason: n for reason, n in result.info["skipped"].items() if n}
    seconds = sum(result.info["seconds"].values())
    typer.echo(f"patterns {result.phase_id.size}, skipped {sum(skipped.values())} {skipped or ''}".rstrip())
    typer.echo(f"{result.phase_id.size / max(seconds, 1e-9):.0f} patterns per second")
    typer.echo(str(result.folder))


def report(
    folders: Annotated[list[Path], typer.Argument(help="Folders of finished runs, or of studies.")],
    prediction: Annotated[
        list[Path] | None, typer.Option(help="Predicted index folder; default: those in the run's folder.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The page, .html; default: report.html in the folder.")] = None,
) -> None:
    """Write a page with maps, histograms and numbers of each run or study; needs the extra [curate].

    Example: dptrain report runs/demo-cnn-0
    """
    require("report", "orix", "h5py", "matplotlib")
    from dptrain.reports import write_reports

    for page in write_reports(folders, predictions=prediction or [], out=out):
        typer.echo(str(page))
