"""Croissant metadata: every array and every file of it is there, and names, types and shapes are those on the disk.

mlcroissant has an environment of its own (docs/results/curation.md); DPCURATE_CROISSANT_PYTHON names its Python.
"""

import fnmatch
import json
import os
import subprocess

import pytest

from dpcurate.croissant import DATA_TYPES, license_url
from dpcurate.curate import build_dataset
from dpcurate.manifests import read_manifest
from dpcurate.recipe import CurationRecipe
from dpcurate.schema import LABELS, PATTERN_DTYPES
from dpcurate.shards import sha256_file
from dpcurate.store import verify
from tests.small_scan import small_index

MLCROISSANT = os.environ.get("DPCURATE_CROISSANT_PYTHON")
PROPERTY = ("conformsTo", "name", "version", "description", "datePublished", "license", "distribution", "recordSet")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    index, root = small_index(tmp_path_factory.getbasetemp()), tmp_path_factory.mktemp("croissant")
    rules = CurationRecipe(license="CC-BY-4.0")
    return build_dataset([index], rules=rules, simulated=2, root=root, progress=False)


@pytest.fixture(scope="module")
def metadata(made):
    return json.loads((made / "croissant.json").read_text(encoding="utf-8"))


def fields_of(metadata):
    """The one field of each set of records, by the name of its array."""
    assert {len(records["field"]) for records in metadata["recordSet"]} == {1}
    return {records["name"]: records["field"][0] for records in metadata["recordSet"]}


def test_what_croissant_demands_is_there(metadata):
    assert metadata["@type"] == "sc:Dataset"
    assert metadata["conformsTo"] == "http://mlcommons.org/croissant/1.1"
    assert [name for name in PROPERTY if not metadata.get(name)] == []
    assert metadata["license"] == "https://spdx.org/licenses/CC-BY-4.0.html"
    ids = [node["@id"] for node in (*metadata["distribution"], *metadata["recordSet"], *fields_of(metadata).values())]
    assert len(ids) == len(set(ids))


def test_every_file_of_an_array_is_in_the_set_of_its_field_and_in_no_other(made, metadata):
    sets = {node["@id"]: node["includes"] for node in metadata["distribution"] if node["@type"] == "cr:FileSet"}
    fields = fields_of(metadata)
    for name, record in read_manifest(made).arrays.items():
        own = fields[name]["source"]["fileSet"]["@id"]
        for file in record.files:
            holding = [key for key, globs in sets.items() if any(fnmatch.fnmatch(file.file, glob) for glob in globs)]
            assert holding == [own]


def test_types_and_shapes_are_those_of_the_arrays(made, metadata):
    arrays = read_manifest(made).arrays
    for name, field in fields_of(metadata).items():
        record = arrays.pop(name)
        assert field["dataType"] == DATA_TYPES[record.dtype]
        shape = [int(size) for size in field.get("arrayShape", "").split(",") if size]
        assert (shape, field.get("isArray", False)) == (list(record.shape[1:]), len(record.shape) > 1)
    assert arrays == {}
    assert {label.dtype for label in LABELS.values()} | set(PATTERN_DTYPES) == set(DATA_TYPES)


def test_the_card_is_listed_with_its_hash_and_all_documents_are_verified(made, metadata):
    (card,) = (node for node in metadata["distribution"] if node["@type"] == "cr:FileObject")
    assert card["sha256"] == sha256_file(made / "card.md")
    assert card["contentSize"] == f"{(made / 'card.md').stat().st_size} B"
    assert {document.file for document in read_manifest(made).documents} == {"card.md", "card.html", "croissant.json"}
    assert verify(made) == []


@pytest.mark.parametrize(
    ("given", "expected"),
    [("MIT", "https://spdx.org/licenses/MIT.html"), ("https://example.org/mine", "https://example.org/mine")],
)
def test_a_licence_is_a_link(given, expected):
    assert license_url(given) == expected


@pytest.mark.skipif(not MLCROISSANT, reason="DPCURATE_CROISSANT_PYTHON names no Python with mlcroissant")
def test_mlcroissant_finds_no_error(made):
    code = "import sys, mlcroissant; print(mlcroissant.Dataset(sys.argv[1]).metadata.issues.report())"
    done = subprocess.run([MLCROISSANT, "-c", code, made / "croissant.json"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "", done.stdout
