"""The commands ``dpcurate datasets list | show | verify``."""

from pathlib import Path
from typing import Annotated

import typer

from dpcurate.errors import InputError
from dpcurate.remote import RemoteFolder
from dpcurate.schema import Manifest
from dpcurate.store import CARD, dataset_root, list_datasets, open_dataset, resolve, verify

app = typer.Typer(help="Datasets: list, show, verify.", no_args_is_help=True)

Root = Annotated[
    Path | None,
    typer.Option(help="Folder of all datasets. Default: DPCURATE_DATASETS in the environment, or datasets."),
]
Reference = Annotated[str | None, typer.Argument(help="NAME, NAME@VERSION or a folder. Default: the newest dataset.")]


@app.command("list")
def list_command(root: Root = None) -> None:
    """List every dataset, the newest version of a name last.

    Example: dpcurate datasets list --root datasets
    """
    entries = list_datasets(dataset_root(root))
    if not entries:
        typer.echo(f"no datasets in {dataset_root(root)}")
    for entry in entries:
        typer.echo(_line(entry.manifest) if entry.manifest else f"{entry.path}  unusable: {entry.problem}")


@app.command()
def show(dataset: Reference = None, *, root: Root = None) -> None:
    """Print a dataset's card and its arrays.

    Example: dpcurate datasets show demo
    """
    opened = open_dataset(resolve(dataset, root))
    card = opened.path / CARD
    typer.echo(opened.text(CARD) or f"{card}: missing\n")
    typer.echo(opened.path)
    for name, record in opened.manifest.arrays.items():
        size = sum(shard.bytes for shard in record.files)
        typer.echo(f"  {name:18} {record.dtype:8} {'x'.join(map(str, record.shape)):16} {size / 1e6:10.3f} MB")


@app.command("verify")
def verify_command(dataset: Reference = None, *, root: Root = None) -> None:
    """Read every file of a dataset and compare it with what was written; exit code 2 when it is damaged.

    Example: dpcurate datasets verify demo
    """
    opened = resolve(dataset, root)
    if isinstance(opened, RemoteFolder):
        raise InputError(f"{opened}: only a dataset on a disk can be verified; copy it first.")
    problems = verify(opened, progress=True)
    for problem in problems:
        typer.echo(problem)
    if problems:
        raise InputError(f"{opened}: not as written in {len(problems)} places; restore those files or build it again.")
    files = [shard for record in open_dataset(opened).manifest.arrays.values() for shard in record.files]
    typer.echo(f"{opened}: {len(files)} files, {sum(shard.bytes for shard in files)} bytes: all as written")


def _line(manifest: Manifest) -> str:
    size = sum(shard.bytes for record in manifest.arrays.values() for shard in record.files)
    phases = ", ".join(phase.name for phase in manifest.phases)
    return (
        f"{manifest.name}@{manifest.version}  {manifest.n_patterns:8d} patterns  {size / 1e6:9.1f} MB  "
        f"{manifest.created[:19]}  {phases}"
    )
