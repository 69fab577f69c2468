"""Datasets on disk: write once, find, open, verify. ``ROOT/NAME/VERSION/`` holds a folder per array and a manifest.

A dataset is written beside its place as ``.NAME-PLAN.partial``, the manifest last, and then renamed; it is never
edited. Its version is derived from its content, so the same input gives the same version. Needs numpy, TensorStore,
pydantic.
"""

import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts
from numpy.typing import NDArray

from dpcurate import shards, writing
from dpcurate.errors import InputError
from dpcurate.manifests import MANIFEST, make_manifest, read_manifest
from dpcurate.remote import Folder, RemoteFolder, folder_at, read_file
from dpcurate.schema import LABELS, PATTERN_DTYPES, Description, Leak, Manifest
from dpcurate.verifying import missing, verify

ROOT_VARIABLE = "DPCURATE_DATASETS"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

MOST_PER_SHARD = 1 << 20
"""A shard's index takes 16 bytes for each pattern, and is read whole."""


@dataclass(frozen=True)
class Dataset:
    """An opened dataset. Arrays are opened when first read, so that it can be sent to worker processes."""

    path: Folder
    manifest: Manifest

    @property
    def n(self) -> int:
        """Number of patterns."""
        return self.manifest.n_patterns

    def read(self, name: str) -> NDArray[Any]:
        """A whole array, axis 0 the patterns; meant for labels. InputError names a damaged file."""
        return shards.read_rows(self._open(name), slice(None), folder=self.path / name)

    def patterns(self, indices: NDArray[np.integer]) -> NDArray[Any]:
        """Patterns ``(len(indices), row, column)`` in the order asked for, read as one batch with checksums.

        Raises InputError that names a damaged or missing shard and the pattern; IndexError for indices outside 0 to n.
        """
        indices = np.asarray(indices, np.int64)
        if indices.size and not 0 <= indices.min() <= indices.max() < self.n:
            raise IndexError(f"{self.path}: pattern indices must be from 0 to {self.n - 1}")
        return shards.read_rows(self._patterns, indices, folder=self.path / "patterns")

    def text(self, name: str) -> str | None:
        """What one of its files for readers says, such as card.md; None where it is missing."""
        held = read_file(self.path, name)
        return None if held is None else held.decode("utf-8", errors="replace")

    @cached_property
    def _patterns(self) -> ts.TensorStore:
        return self._open("patterns")

    def _open(self, name: str) -> ts.TensorStore:
        return shards.open_array(self.path, name=name, record=self.manifest.arrays[name])

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "manifest": self.manifest}


@dataclass(frozen=True)
class Entry:
    """A dataset found below a root: its manifest, or what is wrong with it."""

    path: Path
    manifest: Manifest | None
    problem: str = ""


def dataset_root(root: str | Path | None = None) -> Path:
    """The folder of all datasets: ``root``, else the environment's DPCURATE_DATASETS, else ``datasets``."""
    return Path(root or os.environ.get(ROOT_VARIABLE) or "datasets")


def write_dataset(
    root: Path,
    *,
    name: str,
    patterns: Iterable[NDArray[Any]] | writing.Rows,
    dtype: np.dtype[Any],
    pattern_shape: tuple[int, int],
    labels: Mapping[str, NDArray[Any]],
    description: Description,
    documents: Callable[[Dataset], Mapping[str, str]],
    measure: Callable[[Dataset], Leak | None] | None = None,
    patterns_per_shard: int = writing.PATTERNS_PER_SHARD,
    executor: Executor | None = None,
    progress: bool = False,
) -> Path:
    """Write a dataset in one pass and return its folder ``root/name/version``.

    A call that was interrupted leaves ``root/.NAME-PLAN.partial``, which the same call completes.

    Parameters
    ----------
    root, name, dtype, pattern_shape
        Where, under which name, and what: one of ``schema.PATTERN_DTYPES``, (rows, columns) of a pattern.
    patterns
        Blocks ``(any, row, column)`` that follow one another, or a function ``(start, stop)`` that gives those patterns
        and can be sent to other processes (see ``writing.Rows``); about one shard is held in memory.
    labels
        One array for each of ``schema.LABELS``, axis 0 the N patterns.
    description
        All that the manifest takes over.
    documents
        Makes the files for readers, text by name, of the dataset when all its arrays are written: card.md and others.
    measure
        Finds the leak between its splits before that.
    patterns_per_shard
        How many patterns one file holds.
    executor
        Fills shards at once: a process pool (spawn or forkserver), or dask's ``client.get_executor()``. ``patterns``
        is a function then. The dataset is the same bit by bit.
    progress
        Show it, on stderr, where ``patterns`` is a function.

    Raises
    ------
    InputError
        What was given does not fit together, or does not fit on the disk. Nothing stays behind then. Another process
        writes a dataset of this name. When this version is there already, it is kept; InputError if it is damaged.
    """
    _check(name, labels, dtype)
    if not 1 <= patterns_per_shard <= MOST_PER_SHARD:
        raise InputError(f"--patterns-per-shard {patterns_per_shard}: must be from 1 to {MOST_PER_SHARD}.")
    n = len(labels["orientation"])
    needed = n * dtype.itemsize * int(np.prod(pattern_shape)) + sum(array.nbytes for array in labels.values())
    shape = (n, *pattern_shape)
    rows: dict[str, Any] = {"patterns_per_shard": patterns_per_shard}
    with writing.only_writer(root, name):
        plan = writing.plan_of(labels, description, dtype=dtype, shape=(*shape, patterns_per_shard))
        folder = root / f".{name}-{plan}.partial"
        try:
            folder.mkdir(exist_ok=True)
            options: dict[str, Any] = {"executor": executor, "progress": progress}
            arrays = {"patterns": writing.write_patterns(folder, patterns, dtype=dtype, shape=shape, **rows, **options)}
            arrays |= {label: writing.write_label(folder, label, labels[label], **rows) for label in LABELS}
            manifest = make_manifest(arrays, description, name=name, **rows)
            if measure is not None:
                manifest = manifest.model_copy(update={"leak": measure(Dataset(folder, manifest))})
            written = writing.write_documents(folder, documents(Dataset(folder, manifest)))
            manifest = manifest.model_copy(update={"documents": written})
            writing.write_text(folder / MANIFEST, manifest.model_dump_json(indent=1))
            return _publish(folder, root / name / manifest.version)
        except InputError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        except (OSError, ValueError) as error:
            reason = shards.no_space(error)
            if not reason:
                raise
            free = shutil.disk_usage(root).free
            shutil.rmtree(folder, ignore_errors=True)
            raise InputError(
                f"{root}: dataset {name} could not be written ({reason}): it needs up to {needed / 1e6:.1f} MB and "
                f"{free / 1e6:.1f} MB were free. Make room or choose another folder with --root."
            ) from error


def open_dataset(path: str | Folder) -> Dataset:
    """The dataset in a folder, here or on a server; InputError unless its manifest is sound and its files are there.

    Sizes are compared in folders here. S3 is asked for the names of all files. Plain HTTP cannot be asked: there a
    shard that is missing is an error when it is read.
    """
    folder = folder_at(path)
    manifest = read_manifest(folder)
    listed = [shard for record in manifest.arrays.values() for shard in record.files]
    problems = missing(folder, listed)
    if problems:
        raise InputError(f"{folder}/{problems[0]}; restore this file or rebuild dataset {manifest.name}.")
    return Dataset(folder, manifest)


def list_datasets(root: Path) -> list[Entry]:
    """Every dataset below ``root`` by name, oldest version first; what cannot be read comes with its problem."""
    entries = []
    for file in sorted(root.glob(f"[!.]*/*/{MANIFEST}")):
        try:
            entries.append(Entry(file.parent, read_manifest(file.parent)))
        except InputError as error:
            entries.append(Entry(file.parent, None, str(error)))
    return sorted(entries, key=lambda entry: (entry.path.parent.name, entry.manifest.created if entry.manifest else ""))


def unfinished(root: Path) -> list[tuple[Path, int]]:
    """Folders below ``root`` that interrupted calls have left, or that are being written now, with their bytes."""
    folders = [folder for folder in sorted(root.glob(".*.partial")) if folder.is_dir()]
    return [(folder, sum(map(_bytes, folder.rglob("*")))) for folder in folders]


def resolve(reference: str | None, root: str | Path | None = None) -> Folder:
    """Folder of the dataset meant by ``NAME`` (its newest version), ``NAME@VERSION``, a folder, or None (the newest).

    A folder may be on a server: ``s3://bucket/path``, ``http://host/path``.

    Raises InputError that says what there is when nothing fits, or when an unreadable manifest leaves it open.
    """
    if reference is not None and not reference.strip():
        raise InputError("An empty name of a dataset; give NAME, NAME@VERSION or a folder.")
    if reference and isinstance(folder := folder_at(reference), RemoteFolder):
        return folder
    if reference and os.path.isfile(Path(reference) / MANIFEST):  # a name that is too long is no error to it
        return Path(reference)
    place = dataset_root(root)
    entries = list_datasets(place)
    name, _, version = (reference or "").partition("@")
    fitting = [entry for entry in entries if name in ("", entry.path.parent.name) and version in ("", entry.path.name)]
    if not fitting:
        _refuse_unfinished(reference or "", place)
        there = ", ".join(f"{entry.path.parent.name}@{entry.path.name}" for entry in entries) or "none"
        raise InputError(
            f"{place}: no dataset {reference or 'at all'}; there: {there}. "
            "Build one with 'dpcurate build-dataset', or name its folder or another --root."
        )
    if problem := next((entry.problem for entry in fitting if entry.problem), ""):
        raise InputError(problem)
    return max(fitting, key=lambda entry: entry.manifest.created if entry.manifest else "").path


def _refuse_unfinished(reference: str, place: Path) -> None:
    """InputError when what is asked for is what a call that writes, or was interrupted, has put there."""
    for folder in (Path(reference), place / reference):
        if folder.name.endswith(".partial") and os.path.isdir(folder):
            raise InputError(
                f"{folder}: unfinished; it is being written, or left by a call that was interrupted. "
                "The same call of 'dpcurate build-dataset' completes it, else remove it."
            )


def _check(name: str, labels: Mapping[str, NDArray[Any]], dtype: np.dtype[Any]) -> None:
    if not NAME.fullmatch(name):
        raise InputError(f"'{name}' cannot name a dataset; use letters, digits, '.', '_' and '-'.")
    if dtype.name not in PATTERN_DTYPES:
        raise InputError(f"Patterns of {dtype.name} cannot be stored; convert them to {', '.join(PATTERN_DTYPES)}.")
    if set(labels) != set(LABELS):
        raise InputError(f"Labels {sorted(set(labels) ^ set(LABELS))} are missing or unknown; see schema.LABELS.")
    n = len(labels["orientation"])
    for label, layout in LABELS.items():
        if n == 0 or labels[label].shape != layout.shape(n):
            raise InputError(f"Label {label} has shape {labels[label].shape}; expected {layout.shape(max(n, 1))}.")


def _publish(folder: Path, target: Path) -> Path:
    """Rename a finished folder into place, unless the same version is there already and undamaged."""
    target.parent.mkdir(exist_ok=True)
    _sync(folder)
    if target.exists():
        shutil.rmtree(folder)
    if not target.exists():
        try:
            folder.rename(target)
        except OSError:
            if not target.exists():
                raise
        else:
            _sync(target.parent)
            return target
    if problems := verify(target):
        raise InputError(f"{target}: this version exists, but is damaged ({problems[0]}); remove it and build again.")
    return target


def _bytes(path: Path) -> int:
    """Size of a file; 0 of a folder, and of what its writer has removed in the meantime."""
    try:
        return path.stat().st_size if path.is_file() else 0
    except OSError:
        return 0


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
