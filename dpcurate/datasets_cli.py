"""The commands ``dpcurate datasets list | show | diff | verify``."""

from pathlib import Path
from typing import Annotated

import typer

from dpcurate import differences, lineage
from dpcurate.errors import InputError
from dpcurate.remote import RemoteFolder
from dpcurate.schema import Manifest
from dpcurate.store import dataset_root, list_datasets, open_dataset, resolve, unfinished
from dpcurate.verifying import CARD, verify

app = typer.Typer(help="Datasets: list, show, diff, verify.", no_args_is_help=True)

Root = Annotated[
    Path | None,
    typer.Option(help="Folder of all datasets. Default: DPCURATE_DATASETS in the environment, or datasets."),
]
Reference = Annotated[str | None, typer.Argument(help="NAME, NAME@VERSION or a folder. Default: the newest dataset.")]
Named = Annotated[str, typer.Argument(help="NAME, NAME@VERSION or a folder.")]


@app.command("list")
def list_command(root: Root = None) -> None:
    """List every dataset, the newest version of a name last, and what interrupted calls have left.

    Example: dpcurate datasets list --root datasets
    """
    entries = list_datasets(dataset_root(root))
    if not entries:
        typer.echo(f"no datasets in {dataset_root(root)}")
    for entry in entries:
        typer.echo(_line(entry.manifest) if entry.manifest else f"{entry.path}  unusable: {entry.problem}")
    for folder, size in unfinished(dataset_root(root)):
        typer.echo(
            f"{folder}  unfinished, {size / 1e6:.1f} MB: being written, or left by a call that was interrupted; "
            "the same call completes it, else remove it"
        )


@app.command()
def show(dataset: Reference = None, *, root: Root = None) -> None:
    """Print a dataset's card, its arrays, and where it came from.

    Example: dpcurate datasets show demo
    """
    opened = open_dataset(resolve(dataset, root))
    card = opened.path / CARD
    typer.echo(opened.text(CARD) or f"{card}: missing\n")
    typer.echo(opened.path)
    for name, record in opened.manifest.arrays.items():
        size = sum(shard.bytes for shard in record.files)
        typer.echo(f"  {name:18} {record.dtype:8} {'x'.join(map(str, record.shape)):16} {size / 1e6:10.3f} MB")
    for line in lineage.told(opened.manifest, lineage.lineage(opened.manifest)):
        typer.echo(line)


@app.command("diff")
def diff_command(
    first: Named,
    second: Named,
    *,
    out: Annotated[Path | None, typer.Option(help="Write a line of CSV for each pattern that differs.")] = None,
    root: Root = None,
) -> None:
    """Say what came, what went and which labels changed from FIRST to SECOND; patterns are known by scan and pixel.

    Example: dpcurate datasets diff demo@0123456789ab demo
    """
    one, other = (differences.side(open_dataset(resolve(name, root))) for name in (first, second))
    found = differences.difference(one, other)
    for line in differences.told(one, other, found):
        typer.echo(line)
    if out is not None:
        differences.write_table(out, one, other, found)
        typer.echo(out)


@app.command("verify")
def verify_command(
    dataset: Reference = None,
    *,
    sources: Annotated[bool, typer.Option("--sources", help="Hash the scans and indexes it came from, too.")] = False,
    root: Root = None,
) -> None:
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
        raise InputError(f"{opened}: not as written (files: {len(problems)}); restore them or build it again.")
    manifest = open_dataset(opened).manifest
    files = [shard for record in manifest.arrays.values() for shard in record.files]
    typer.echo(f"{opened}: {len(files)} files, {sum(shard.bytes for shard in files)} bytes: all as written")
    if sources:
        _check_sources(manifest)


def _check_sources(manifest: Manifest) -> None:
    """Say whether scans and indexes are what a dataset was built from; InputError where one has changed."""
    from dpcurate.scans import sha256_of

    chains = lineage.lineage(manifest, scan_hash=sha256_of)
    for line in lineage.told(manifest, chains):
        typer.echo(line)
    changed = [link for chain in chains for link in chain if link.state.startswith(lineage.CHANGED)]
    if changed:
        raise InputError(
            f"{changed[0].path}: changed since {manifest.name}@{manifest.version} was built; the dataset itself is as "
            "written. Put the file back, or build a new version from what is there now."
        )


def _line(manifest: Manifest) -> str:
    size = sum(shard.bytes for record in manifest.arrays.values() for shard in record.files)
    phases = ", ".join(phase.name for phase in manifest.phases)
    return (
        f"{manifest.name}@{manifest.version}  {manifest.n_patterns:8d} patterns  {size / 1e6:9.1f} MB  "
        f"{manifest.created[:19]}  {phases}"
    )
