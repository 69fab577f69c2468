"""The command that gives an index its confidence anew: ``dpcurate score``."""

from pathlib import Path
from typing import Annotated

import typer

USUAL_SCANS = 4


def score_command(
    index: Annotated[Path, typer.Argument(help="Index folder; it is written anew in its place.")],
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Adjust to virtual scans in the likeness of the index's scan.")
    ] = False,
    scans: Annotated[int, typer.Option(min=1, max=100, help="Virtual scans for --calibrate.")] = USUAL_SCANS,
    seed: Annotated[int, typer.Option(min=0, max=2**20, help="The same seed gives the same virtual scans.")] = 0,
) -> None:
    """Give the labels of INDEX their confidence anew.

    Example: dpcurate score demo.index --calibrate
    """
    from dpcurate.rescoring import score_index

    found = score_index(index, scans=scans if calibrate else 0, seed=seed)
    if calibrate:
        line = found.adjustment
        typer.echo(
            f"{found.n_scans} virtual scans, {found.n_grains} grains: log-odds x {line.slope:.2f} {line.offset:+.2f}; "
            f"calibration error there {found.error_before:.3f}, now {found.error_after:.3f}"
        )
    typer.echo(f"confidence 0.8 and above: {(found.result.confidence >= 0.8).mean():.1%} of the pixels")
    typer.echo(str(index))
