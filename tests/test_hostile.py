"""Manifests, recipes and cards mutated at random: a sentence each time, never a traceback or a path outside."""

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpcurate import store
from dpcurate.curation_recipe import BuildingRecipe
from dpcurate.manifests import content_version
from dpcurate.recipe import recipe_toml
from dpcurate.schema import Manifest
from tests.hostile import check_dataset, check_recipe, check_shown, mutated_manifest, mutated_recipe
from tests.mutations import as_json, mutated_bytes

choices = st.randoms(use_true_random=False).map(lambda random: random.randrange)
RECIPE = recipe_toml(BuildingRecipe(phases=("Ni.cif",))).encode()


@pytest.fixture(scope="module")
def copy(original, tmp_path_factory):
    """A copy of the tiny dataset whose manifest and card are written over again and again."""
    return Path(shutil.copytree(original, tmp_path_factory.mktemp("hostile") / "tiny" / original.name))


@settings(max_examples=150, deadline=None)
@given(choose=choices)
def test_a_mutated_manifest_is_read_or_refused_in_one_sentence(original, copy, choose):
    content = (original / "manifest.json").read_bytes()
    (copy / "manifest.json").write_bytes(mutated_manifest(content, choose))
    check_dataset(copy)


@settings(max_examples=40, deadline=None)
@given(choose=choices)
def test_commands_refuse_a_mutated_manifest_in_one_sentence_or_show_it(original, copy, choose):
    content = (original / "manifest.json").read_bytes()
    (copy / "manifest.json").write_bytes(mutated_manifest(content, choose))
    check_shown(copy)


@settings(max_examples=150, deadline=None)
@given(choose=choices)
def test_a_mutated_recipe_is_read_or_refused_in_one_sentence(tmp_path_factory, choose):
    file = tmp_path_factory.getbasetemp() / "mutated.toml"
    file.write_bytes(mutated_recipe(RECIPE, choose))
    check_recipe(file)


@settings(max_examples=40, deadline=None)
@given(choose=choices, name=st.sampled_from(["card.md", "patterns/zarr.json", "orientation/zarr.json"]))
def test_a_mutated_card_or_array_metadata_harms_nothing(original, copy, choose, name):
    (copy / "manifest.json").write_bytes((original / "manifest.json").read_bytes())
    content = (original / name).read_bytes()
    mutated = mutated_bytes(content, choose)
    (copy / name).write_bytes(mutated)
    try:
        said = [check_dataset(copy), check_shown(copy)]
        if name != "card.md" and mutated != content:
            assert name in said[0]
        elif mutated != content:
            assert store.verify(copy) != []
    finally:
        (copy / name).write_bytes(content)


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd",
        "patterns/../../x",
        "/etc/passwd",
        "patterns/c/0/0/0\n",
        "patterns/c/٠/0/0",
        "orientation/c/0/0",
    ],
)
def test_a_manifest_that_names_a_file_elsewhere_is_refused_though_its_version_fits(copy, original, name):
    tree = json.loads((original / "manifest.json").read_bytes())
    tree["arrays"]["patterns"]["files"][0]["file"] = name
    manifest = Manifest.model_validate(tree)
    tree["version"] = content_version(manifest.arrays, manifest)
    (copy / "manifest.json").write_bytes(as_json(tree))
    assert "array patterns cannot have a file" in check_dataset(copy)
