"""Commands that judge a network and hand it on. The command line mounts them."""

from pathlib import Path
from typing import Annotated

import typer

Checkpoint = Annotated[Path, typer.Argument(help="A run's folder, or a checkpoint file.")]


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.command()(evaluate)
    app.command()(export)


def evaluate(
    checkpoint: Checkpoint,
    dataset: Annotated[
        str | None, typer.Argument(help="NAME, NAME@VERSION or a dataset's folder; without it the newest one.")
    ] = None,
    root: Annotated[
        Path | None, typer.Option(help="Folder of all datasets; without it DPCURATE_DATASETS or ./datasets.")
    ] = None,
    split: Annotated[str, typer.Option(help="test, validation, train or all.")] = "test",
    out: Annotated[
        Path | None, typer.Option(help="Folder to create; default: NAME-SPLIT.evaluated beside the checkpoint.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    overwrite: Annotated[bool, typer.Option(help="Replace an evaluation that is there.")] = False,
) -> None:
    """Judge a trained network on a dataset: by confidence, distance to the grain boundary and thickness.

    Example: dptrain evaluate runs/demo-cnn-0 demo --split test
    """
    from dptrain.evaluate import evaluate as judge_network

    folder, found = judge_network(
        checkpoint, dataset, root=root, split=split, out=out, overwrite=overwrite, device=device
    )
    for group in found:
        if group.by == "all":
            median, low, high = group.scores["median_deg"]
            share, least, most = (100 * value for value in group.scores["within_3_deg"])
            typer.echo(
                f"{group.population}: {group.n_patterns} patterns of {group.n_grains} grains, median {median:.2f}° "
                f"({low:.2f} to {high:.2f}), within 3° {share:.1f} % ({least:.1f} to {most:.1f})"
            )
    if any(group.population.endswith("by labels") for group in found):
        typer.echo(
            "The exact truth of some patterns is not known: they were judged by their labels, which may be wrong."
        )
    typer.echo(str(folder))


def export(
    checkpoint: Checkpoint,
    file_format: Annotated[str, typer.Option("--format", help="onnx or torch.")] = "onnx",
    out: Annotated[Path | None, typer.Option(help="File to write; default: beside the checkpoint.")] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace a file that is there.")] = False,
) -> None:
    """Write a trained network as ONNX or torch.export, checked, with a model card; ONNX needs the extra [export].

    Example: dptrain export runs/demo-cnn-0 --format onnx
    """
    from dptrain.export import export_model

    file, difference = export_model(checkpoint, file_format=file_format, out=out, overwrite=overwrite)
    typer.echo(f"outputs differ from the checkpoint's by at most {difference:.1g} of the largest")
    typer.echo(str(file))
