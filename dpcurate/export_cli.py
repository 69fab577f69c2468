"""The command that hands an index to other programs: ``dpcurate export``."""

from pathlib import Path
from typing import Annotated

import typer


def export_command(
    index: Annotated[Path, typer.Argument(help="Index folder.")],
    file_format: Annotated[str, typer.Option("--format", help="ctf (MTEX, AZtec, ASTAR), ang (EDAX), h5 (orix).")],
    out: Annotated[Path | None, typer.Option(help="File to write; default: beside the index.")] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace a file that is there.")] = False,
) -> None:
    """Write an index as a file of another program.

    Example: dpcurate export demo.index --format ctf
    """
    from dpcurate.exports import export

    typer.echo(str(export(index, file_format=file_format, out=out, overwrite=overwrite)))
