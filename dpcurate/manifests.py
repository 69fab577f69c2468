"""The manifest of a dataset: read with every check, and the version that its content gives it."""

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from dpcurate.errors import InputError
from dpcurate.schema import FORMAT_VERSION, LABELS, ArrayRecord, Description, Manifest

MANIFEST = "manifest.json"
VERSION_DIGITS = 12


def read_manifest(path: Path) -> Manifest:
    """The manifest of the dataset in folder ``path``; InputError when it is missing, malformed, newer or edited."""
    file = path / MANIFEST
    if not file.is_file():
        raise InputError(f"{path}: no {MANIFEST} there, so this is not a finished dataset; build it again.")
    try:
        text = file.read_text(encoding="utf-8")
        given = json.loads(text)
        version = given.get("format_version") if isinstance(given, dict) else None
        if isinstance(version, int) and version > FORMAT_VERSION:
            raise InputError(
                f"{file}: format version {version}, but this program reads up to {FORMAT_VERSION}; update dpcurate."
            )
        if isinstance(version, int) and version < FORMAT_VERSION:
            raise InputError(f"{file}: format version {version} of an older dpcurate; build this dataset again.")
        manifest = Manifest.model_validate_json(text)
    except (json.JSONDecodeError, UnicodeDecodeError, ValidationError) as error:
        first = str(error).splitlines()[0]
        raise InputError(f"{file}: not a dataset's manifest ({first}); restore this file or build again.") from error
    if set(manifest.arrays) != {"patterns", *LABELS} or manifest.version != content_version(manifest.arrays, manifest):
        raise InputError(f"{file}: does not agree with its own version {manifest.version}; restore it or build again.")
    return manifest


def make_manifest(arrays: dict[str, ArrayRecord], description: Description, *, name: str) -> Manifest:
    """The manifest of a dataset written now."""
    return Manifest(
        **dict(description),
        name=name,
        version=content_version(arrays, description),
        created=datetime.now(UTC).isoformat(timespec="microseconds"),
        n_patterns=arrays["patterns"].shape[0],
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
