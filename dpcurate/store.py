"""Datasets on disk: write once, find, open, verify. ``ROOT/NAME/VERSION/`` holds one folder per array and a manifest.

A dataset is written beside its place under a temporary name, the manifest last, and then renamed; it is never edited.
Its version is derived from its content, so the same input gives the same version. Needs numpy, TensorStore, pydantic.
"""

import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts
from numpy.typing import NDArray
from tqdm import tqdm

from dpcurate import shards
from dpcurate.errors import InputError
from dpcurate.manifests import MANIFEST, make_manifest, read_manifest
from dpcurate.schema import LABELS, PATTERN_DTYPES, ArrayRecord, Description, Manifest

ROOT_VARIABLE = "DPCURATE_DATASETS"
CARD = "card.md"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Dataset:
    """An opened dataset. Arrays are opened when first read, so that it can be sent to worker processes."""

    path: Path
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
    patterns: Iterable[NDArray[Any]],
    dtype: np.dtype[Any],
    pattern_shape: tuple[int, int],
    labels: Mapping[str, NDArray[Any]],
    description: Description,
    card: Callable[[Manifest], str],
) -> Path:
    """Write a dataset in one pass and return its folder ``root/name/version``.

    Parameters
    ----------
    root, name, dtype, pattern_shape
        Where, under which name, and what: one of ``schema.PATTERN_DTYPES``, (rows, columns) of a pattern.
    patterns
        Blocks ``(any, row, column)`` that follow one another; about one shard (1024 patterns) is held in memory.
    labels
        One array for each of ``schema.LABELS``, axis 0 the N patterns.
    description
        All that the manifest takes over.
    card
        Makes the text of card.md from the manifest.

    Raises
    ------
    InputError
        What was given does not fit together, or does not fit on the disk. Nothing stays behind then. When this version
        is there already, it is kept; InputError if it is damaged.
    """
    _check(name, labels, dtype)
    n = len(labels["orientation"])
    needed = n * dtype.itemsize * int(np.prod(pattern_shape)) + sum(array.nbytes for array in labels.values())
    folder = _make_partial(root, name)
    try:
        store = shards.create_array(folder, name="patterns", dtype=dtype, shape=(n, *pattern_shape))
        shards.write_blocks(store, patterns, rows=shards.PATTERNS_PER_SHARD)
        arrays = {"patterns": shards.record_files(folder, name="patterns", dtype=dtype, shape=(n, *pattern_shape))}
        arrays |= {label: _write_label(folder, label, labels[label]) for label in LABELS}
        manifest = make_manifest(arrays, description, name=name)
        _write_text(folder / CARD, card(manifest))
        _write_text(folder / MANIFEST, manifest.model_dump_json(indent=1))
        return _publish(folder, root / name / manifest.version)
    except (OSError, ValueError) as error:
        reason = shards.no_space(error)
        if not reason:
            raise
        free = shutil.disk_usage(root).free
        raise InputError(
            f"{root}: dataset {name} could not be written ({reason}): it needs up to {needed / 1e6:.1f} MB and "
            f"{free / 1e6:.1f} MB were free. Make room or choose another folder with --root."
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def open_dataset(path: Path) -> Dataset:
    """The dataset in folder ``path``; InputError unless its manifest is sound and every file is there in full size."""
    path = Path(path)
    manifest = read_manifest(path)
    for shard in (shard for record in manifest.arrays.values() for shard in record.files):
        file = path / shard.file
        if not file.is_file():
            raise InputError(f"{file}: missing; restore this file or rebuild dataset {manifest.name}.")
        if (size := file.stat().st_size) != shard.bytes:
            raise InputError(
                f"{file}: {size} bytes instead of {shard.bytes}; restore this file or rebuild dataset {manifest.name}."
            )
    return Dataset(path, manifest)


def verify(path: Path, *, progress: bool = False) -> list[str]:
    """What is wrong with a dataset, one sentence each, after reading and hashing every file; empty when all is well.

    Raises InputError when there is no manifest to compare with.
    """
    manifest = read_manifest(path)
    listed = {shard.file: shard for record in manifest.arrays.values() for shard in record.files}
    found = {file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()}
    problems = []
    for name, shard in tqdm(sorted(listed.items()), desc="verify", unit="file", disable=not progress):
        if name not in found:
            problems.append(f"{path / name}: missing.")
        elif (path / name).stat().st_size != shard.bytes:
            problems.append(f"{path / name}: {(path / name).stat().st_size} bytes instead of {shard.bytes}.")
        elif shards.sha256_file(path / name) != shard.sha256:
            problems.append(f"{path / name}: damaged, its content is not what was written.")
    extra = sorted(found - listed.keys() - {MANIFEST, CARD})
    return problems + [f"{path / name}: extra, not a file of this dataset." for name in extra]


def list_datasets(root: Path) -> list[Entry]:
    """Every dataset below ``root`` by name, oldest version first; what cannot be read comes with its problem."""
    entries = []
    for file in sorted(root.glob(f"[!.]*/*/{MANIFEST}")):
        try:
            entries.append(Entry(file.parent, read_manifest(file.parent)))
        except InputError as error:
            entries.append(Entry(file.parent, None, str(error)))
    return sorted(entries, key=lambda entry: (entry.path.parent.name, entry.manifest.created if entry.manifest else ""))


def resolve(reference: str | None, root: str | Path | None = None) -> Path:
    """Folder of the dataset meant by ``NAME`` (its newest version), ``NAME@VERSION``, a folder, or None (the newest).

    Raises InputError that says what there is when nothing fits, or when an unreadable manifest leaves it open.
    """
    if reference and (Path(reference) / MANIFEST).is_file():
        return Path(reference)
    place = dataset_root(root)
    entries = list_datasets(place)
    name, _, version = (reference or "").partition("@")
    fitting = [entry for entry in entries if name in ("", entry.path.parent.name) and version in ("", entry.path.name)]
    if not fitting:
        there = ", ".join(f"{entry.path.parent.name}@{entry.path.name}" for entry in entries) or "none"
        raise InputError(
            f"{place}: no dataset {reference or 'at all'}; there: {there}. "
            "Build one with 'dpcurate build-dataset', or name its folder or another --root."
        )
    if problem := next((entry.problem for entry in fitting if entry.problem), ""):
        raise InputError(problem)
    return max(fitting, key=lambda entry: entry.manifest.created if entry.manifest else "").path


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


def _make_partial(root: Path, name: str) -> Path:
    folder = root / f".{name}-{secrets.token_hex(4)}.partial"
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise InputError(f"{root}: cannot be written ({error.strerror}); choose another folder with --root.") from error
    return folder


def _write_label(folder: Path, label: str, values: NDArray[Any]) -> ArrayRecord:
    dtype = np.dtype(LABELS[label].dtype)
    store = shards.create_array(folder, name=label, dtype=dtype, shape=values.shape)
    store.write(values.astype(dtype)).result()
    return shards.record_files(folder, name=label, dtype=dtype, shape=values.shape)


def _publish(folder: Path, target: Path) -> Path:
    """Rename a finished folder into place, unless the same version is there already and undamaged."""
    target.parent.mkdir(exist_ok=True)
    _sync(folder)
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


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write_text(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
