"""Whether a dataset's files are those that were written: there and of the right size, or hashed one by one."""

import re
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from dpcurate import shards
from dpcurate.manifests import MANIFEST, read_manifest
from dpcurate.remote import Folder, RemoteFolder, names_in
from dpcurate.schema import Manifest, Shard

CARD = "card.md"

PART = re.compile(r"([^/]+)/c/(\d+)")
"""A shard's file below the dataset's folder: array, and number of the shard along its first axis."""


def missing(folder: Folder, files: Sequence[Shard]) -> list[str]:
    """The first file that is missing or has another size, and what is wrong with it; empty when all is well."""
    if isinstance(folder, RemoteFolder):
        names = names_in(folder)
        return [f"{shard.file}: missing" for shard in files if names is not None and shard.file not in names][:1]
    for shard in files:
        file = folder / shard.file
        if not file.is_file():
            return [f"{shard.file}: missing"]
        if (size := file.stat().st_size) != shard.bytes:
            return [f"{shard.file}: {size} bytes instead of {shard.bytes}"]
    return []


def verify(path: Path, *, progress: bool = False) -> list[str]:
    """What is wrong with a dataset, one sentence each, after reading and hashing every file; empty when all is well.

    Raises InputError when there is no manifest to compare with.
    """
    manifest = read_manifest(path)
    listed = {shard.file: shard for record in manifest.arrays.values() for shard in record.files}
    listed |= {document.file: document for document in manifest.documents}
    found = {file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()}
    problems = []
    for name, shard in tqdm(sorted(listed.items()), desc="verify", unit="file", disable=not progress):
        held = _held(name, manifest)
        if name not in found:
            problems.append(f"{path / name}: missing{held}.")
        elif (path / name).stat().st_size != shard.bytes:
            problems.append(f"{path / name}: {(path / name).stat().st_size} bytes instead of {shard.bytes}{held}.")
        elif shards.sha256_file(path / name) != shard.sha256:
            problems.append(f"{path / name}: damaged, its content is not what was written{held}.")
    extra = sorted(found - listed.keys() - {MANIFEST, CARD})
    return problems + [f"{path / name}: extra, not a file of this dataset." for name in extra]


def _held(name: str, manifest: Manifest) -> str:
    """Which patterns a shard belongs to, in brackets; nothing for other files."""
    part = PART.match(name)
    if part is None or part[1] not in manifest.arrays:
        return ""
    rows = shards.rows_in_file(part[1], manifest.patterns_per_shard)
    first = int(part[2]) * rows
    last = min(first + rows, manifest.arrays[part[1]].shape[0]) - 1
    return f" (patterns {first} to {last})"
