"""Croissant metadata of a dataset (MLCommons, version 1.1): what it holds, in the words that search engines read.

Every array is a set of files and a field; its shape is stated. Readers of Croissant do not read Zarr, so the metadata
say how the arrays are opened instead of promising records.

Source: Croissant format specification 1.1, docs.mlcommons.org/croissant/docs/croissant-spec-1.1.html.
"""

import json
import re
from typing import Any

from dpcurate.manifests import MANIFEST
from dpcurate.schema import LABELS, Manifest
from dpcurate.verifying import CARD

CROISSANT = "croissant.json"

CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "arrayShape": "cr:arrayShape",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "containedIn": "cr:containedIn",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "description": {"@container": "@language"},
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isArray": "cr:isArray",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "name": {"@container": "@language"},
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
"""The context that the specification gives, word for word."""

CONFORMS_TO = "http://mlcommons.org/croissant/1.1"

ZARR = "application/vnd.zarr+v3"
"""Media type of a Zarr array; none is registered."""

DATA_TYPES = {
    "uint8": "cr:UInt8",
    "uint16": "cr:UInt16",
    "uint32": "cr:UInt32",
    "int16": "cr:Int16",
    "int32": "cr:Int32",
    "int64": "cr:Int64",
    "float32": "cr:Float32",
    "float64": "cr:Float64",
}
"""Croissant's word for each dtype that an array of a dataset may have."""

SPDX = re.compile(r"[A-Za-z0-9.+-]+")
"""An SPDX identifier."""


def croissant_text(manifest: Manifest, *, license_name: str | None, card: str, card_sha256: str) -> str:
    """Croissant metadata of a dataset as JSON-LD; ``license_name`` is an SPDX identifier, a link or None.

    Neither the manifest nor this file can be listed with its hash: the manifest is written last and holds the hashes of
    all other files. ``card`` is the text of the card, listed with ``card_sha256``.
    """
    metadata: dict[str, Any] = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS_TO,
        "name": manifest.name,
        "version": f"1.0.0+{manifest.version}",
        "description": _description(manifest),
        "dateCreated": manifest.created[:10],
        "datePublished": manifest.created[:10],
        "keywords": ["electron diffraction", "4D-STEM", "crystal orientation", *_phases(manifest)],
        "citeAs": f"{manifest.name}@{manifest.version}, a dpcurate dataset of {manifest.n_patterns} patterns.",
        "distribution": [_card(card, card_sha256), *(_files(name) for name in manifest.arrays)],
        "recordSet": [_records(manifest, name) for name in manifest.arrays],
    }
    if license_name:
        metadata["license"] = license_url(license_name)
    return json.dumps(metadata, indent=1, ensure_ascii=False) + "\n"


def license_url(name: str) -> str:
    """A licence as Croissant wants it, a link; of an SPDX identifier that of its text there."""
    return f"https://spdx.org/licenses/{name}.html" if SPDX.fullmatch(name) else name


def _description(manifest: Manifest) -> str:
    rows, columns = manifest.arrays["patterns"].shape[1:]
    return (
        f"{manifest.n_patterns} electron-diffraction patterns of {rows} x {columns} pixels with crystal orientations "
        f"and confidences; {', '.join(_phases(manifest))}; {manifest.beam_energy_kev:g} keV, precession "
        f"{manifest.precession_deg:g} degrees. Each array is a sharded Zarr v3 array: open it with zarr-python 3 "
        f"(zarr.open_array), TensorStore (driver zarr3) or dpcurate.store. Version {manifest.version} is a digest of "
        f"the content; {MANIFEST} names every file with size and SHA-256."
    )


def _phases(manifest: Manifest) -> list[str]:
    return [phase.name for phase in manifest.phases]


def _card(card: str, sha256: str) -> dict[str, object]:
    return {
        "@type": "cr:FileObject",
        "@id": CARD,
        "name": CARD,
        "description": "What the dataset holds, where that came from, how far to trust it, how to make it again.",
        "contentUrl": CARD,
        "contentSize": f"{len(card.encode())} B",
        "encodingFormat": "text/markdown",
        "sha256": sha256,
    }


def _files(name: str) -> dict[str, object]:
    return {
        "@type": "cr:FileSet",
        "@id": f"{name}-files",
        "name": f"{name}-files",
        "description": f"The Zarr v3 array {name}: zarr.json and its shards.",
        "encodingFormat": ZARR,
        "includes": [f"{name}/zarr.json", f"{name}/c/**"],
    }


def _records(manifest: Manifest, name: str) -> dict[str, object]:
    """One set of records for each array: Croissant would join arrays by a column, and theirs is the number of a row."""
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "description": f"{manifest.n_patterns} records, one for each pattern: record k of every set is of pattern k.",
        "field": [_field(manifest, name)],
    }


def _field(manifest: Manifest, name: str) -> dict[str, object]:
    record, label = manifest.arrays[name], LABELS.get(name)
    parts = f" ({', '.join(label.parts)})" if label and label.parts else ""
    unit = f", {label.unit}" if label and label.unit else ""
    field: dict[str, object] = {
        "@type": "cr:Field",
        "@id": f"{name}/value",
        "name": "value",
        "description": f"{label.meaning if label else 'diffraction pattern (row, column), counts'}{parts}{unit}",
        "dataType": DATA_TYPES[record.dtype],
        "source": {"fileSet": {"@id": f"{name}-files"}, "extract": {"fileProperty": "content"}},
    }
    if len(record.shape) > 1:
        field |= {"isArray": True, "arrayShape": ",".join(str(size) for size in record.shape[1:])}
    return field
