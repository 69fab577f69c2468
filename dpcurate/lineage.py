"""Where a dataset came from, by hash: from its patterns to the index of each scan, and from that to the scan.

Needs the store only.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dpcurate.schema import Manifest, Source
from dpcurate.shards import sha256_file

AS_IT_WAS, CHANGED, GONE = "as it was", "changed since", "not here"
NOT_COMPARED = "here, not compared (`dpcurate datasets verify --sources` reads it)"

INDEX_FILE = "crystal_map.h5"
"""The file of an index whose hash a dataset keeps."""

ZARR_MARKS = (".zgroup", ".zarray", "zarr.json")
"""What a folder holds if it is a scan (.zspy); no other folder is hashed."""

Hash = Callable[[Path], str]


@dataclass(frozen=True)
class Link:
    """One thing that a dataset came from."""

    kind: str
    path: str
    sha256: str
    state: str


def lineage(manifest: Manifest, *, scan_hash: Hash | None = None) -> list[tuple[Link, ...]]:
    """For each source of a dataset what it came from, the nearest first: an index and its scan, or a simulation.

    An index that lies where it lay is hashed and asked for the hash of its scan. Scans are large: they are hashed where
    ``scan_hash`` is given, the function that indexing hashes them by.
    """
    return [_of_scan(source, scan_hash) if source.kind == "scan" else _simulated(source) for source in manifest.sources]


def told(manifest: Manifest, chains: list[tuple[Link, ...]]) -> list[str]:
    """A lineage as lines of text, each thing below what came from it."""
    lines = [f"{manifest.name}@{manifest.version} came from"]
    for chain in chains:
        for depth, link in enumerate(chain, start=1):
            digest = f"  SHA-256 {link.sha256}" if link.sha256 else ""
            lines.append(f"{'  ' * depth}{link.kind} {link.path}{digest}{f'  {link.state}' if link.state else ''}")
    return lines


def _of_scan(source: Source, scan_hash: Hash | None) -> tuple[Link, ...]:
    index, scan = source.index_path or "", source.scan_path or ""
    return (
        Link("index", index, source.index_sha256 or "", _index_state(source)),
        Link("scan", scan, source.scan_sha256 or "", _scan_state(scan, source.scan_sha256, scan_hash)),
    )


def _simulated(source: Source) -> tuple[Link, ...]:
    return (Link("simulation", source.note, "", ""),)


def _index_state(source: Source) -> str:
    folder = _existing(source.index_path)
    if folder is None or not (folder / INDEX_FILE).is_file():
        return GONE
    try:
        if sha256_file(folder / INDEX_FILE) != source.index_sha256:
            return CHANGED
        info = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        scan = info["scan"]["sha256"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return CHANGED
    return AS_IT_WAS if scan == source.scan_sha256 else f"{CHANGED}: it names another scan"


def _scan_state(path: str, known: str | None, scan_hash: Hash | None) -> str:
    scan = _existing(path)
    if scan is None or not (scan.is_file() or any((scan / mark).is_file() for mark in ZARR_MARKS)):
        return GONE
    if scan_hash is None:
        return NOT_COMPARED
    try:
        return AS_IT_WAS if scan_hash(scan) == known else CHANGED
    except OSError as error:
        return f"cannot be read ({error.strerror})"


def _existing(path: str | None) -> Path | None:
    """A path that something lies at; None also where it cannot be a path at all."""
    try:
        return Path(path) if path and Path(path).exists() else None
    except (OSError, ValueError):
        return None
