"""The manifest of a dataset: read with every check, and the version that its content gives it."""

import hashlib
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime

from dpcurate.errors import InputError
from dpcurate.remote import Folder, read_file
from dpcurate.schema import FORMAT_VERSION, LABELS, PATTERN_DTYPES, ArrayRecord, Description, Manifest

MANIFEST = "manifest.json"
VERSION_DIGITS = 12

FILE = re.compile(r"[a-z0-9_]+/(zarr\.json|c(/[0-9]+)+)")
"""Files that an array has, below its dataset's folder."""

DOCUMENT = re.compile(r"(?!manifest\.)[a-z0-9_]+\.(md|html|json)")
"""Files for readers, in that folder itself."""


def read_manifest(path: Folder) -> Manifest:
    """The manifest of the dataset in folder ``path``; InputError when it is missing, malformed, newer or edited."""
    file = path / MANIFEST
    text = read_file(path, MANIFEST)
    if text is None:
        raise InputError(f"{path}: no {MANIFEST} there, so this is not a finished dataset; build it again.")
    try:
        given = json.loads(text)
        version = given.get("format_version") if isinstance(given, dict) else None
        known = not isinstance(version, int) or version == FORMAT_VERSION
        manifest = Manifest.model_validate_json(text) if known else None
    except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, nested without end, or not a manifest
        first = (str(error).splitlines() or ["empty"])[0]
        raise InputError(f"{file}: not a dataset's manifest ({first}); restore this file or build again.") from error
    if manifest is None and int(version or 0) > FORMAT_VERSION:
        raise InputError(
            f"{file}: format version {version}, but this program reads up to {FORMAT_VERSION}; update dpcurate."
        )
    if manifest is None:
        raise InputError(f"{file}: format version {version} of an older dpcurate; build this dataset again.")
    if problem := _contradiction(manifest):
        raise InputError(f"{file}: {problem}; restore it or build again.")
    return manifest


def _contradiction(manifest: Manifest) -> str:
    """What does not fit together in a manifest, or names files outside of the dataset; empty when all is well."""
    arrays, n = manifest.arrays, manifest.n_patterns
    if set(arrays) != {"patterns", *LABELS} or manifest.version != content_version(arrays, manifest):
        return f"does not agree with its own version {manifest.version}"
    patterns = arrays["patterns"]
    if len(patterns.shape) != 3 or patterns.shape[0] != n or min(patterns.shape) < 1:
        return f"{n} patterns cannot be an array of shape {patterns.shape}"
    if patterns.dtype not in PATTERN_DTYPES:
        return f"patterns of {patterns.dtype} are unknown"
    for name, label in LABELS.items():
        if (arrays[name].dtype, arrays[name].shape) != (label.dtype, label.shape(n)):
            return f"label {name} is not {label.dtype} of shape {label.shape(n)}"
    return _foreign_file(manifest)


def _foreign_file(manifest: Manifest) -> str:
    """What is wrong with the name of a file that a manifest lists; empty when all lie in the dataset."""
    for name, record in manifest.arrays.items():
        for shard in record.files:
            if not FILE.fullmatch(shard.file) or shard.file.partition("/")[0] != name:
                return f"array {name} cannot have a file {shard.file!r}"
    for document in manifest.documents:
        if not DOCUMENT.fullmatch(document.file):
            return f"a document cannot be the file {document.file!r}"
    return ""


def make_manifest(
    arrays: dict[str, ArrayRecord], description: Description, *, name: str, patterns_per_shard: int
) -> Manifest:
    """The manifest of a dataset written now."""
    return Manifest(
        **dict(description),
        name=name,
        version=content_version(arrays, description),
        created=datetime.now(UTC).isoformat(timespec="microseconds"),
        n_patterns=arrays["patterns"].shape[0],
        patterns_per_shard=patterns_per_shard,
        arrays=arrays,
    )


def content_version(arrays: Mapping[str, ArrayRecord], description: Description) -> str:
    """Version of a dataset: 12 hexadecimal digits over its files and what the labels mean, its name excluded."""
    content = {
        "arrays": [
            [name, record.dtype, record.shape, [[shard.file, shard.sha256] for shard in record.files]]
            for name, record in sorted(arrays.items())
        ],
        "phases": [phase.model_dump(mode="json") for phase in description.phases],
        "beam_energy_kev": description.beam_energy_kev,
        "precession_deg": description.precession_deg,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:VERSION_DIGITS]
