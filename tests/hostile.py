"""What must hold of anything that stands where a file of ours should: it is read, or refused in one sentence.

Shared by tests/test_hostile.py and benchmarks/fuzz.py.
"""

import json
import tomllib
from pathlib import Path

import numpy as np
from pydantic import ValidationError
from typer.testing import CliRunner

from dpcurate import store
from dpcurate.curation_recipe import BuildingRecipe
from dpcurate.datasets_cli import app
from dpcurate.errors import InputError
from dpcurate.manifests import content_version, read_manifest
from dpcurate.recipe import load_recipe, read_recipe
from dpcurate.schema import LABELS, Manifest
from tests.mutations import as_json, mutated_bytes, mutated_tree

LONGEST = 20_000
"""Characters of a sentence: one that quotes a value may be long, but not without end."""


def sentence(error):
    """What an error says, which must be one line."""
    text = str(error)
    assert text
    assert "\n" not in text, text
    assert len(text) < LONGEST, len(text)
    return text


def signed(tree):
    """A mutated manifest with the version that its content gives it, so that nothing hides behind a wrong one."""
    try:
        manifest = Manifest.model_validate_json(as_json(tree))
        return tree | {"version": content_version(manifest.arrays, manifest)}
    except (ValidationError, ValueError):
        return tree


def mutated_manifest(content, choose):
    """A mutated manifest.json: its bytes, its values, or its values with a version that fits them."""
    kind = choose(3)
    if kind == 0:
        return mutated_bytes(content, choose)
    tree = mutated_tree(json.loads(content), choose)
    return as_json(signed(tree) if kind == 1 else tree)


def mutated_recipe(content, choose):
    """A mutated recipe: its bytes, or values written as JSON, which for numbers, strings and lists is TOML."""
    if choose(2):
        return mutated_bytes(content, choose)
    tree = mutated_tree(tomllib.loads(content.decode()), choose)
    lines = [f"{name} = {json.dumps(value)}" for name, value in tree.items() if not isinstance(value, dict)]
    for section, values in tree.items():
        if isinstance(values, dict):
            lines += [f"[{json.dumps(section)}]", *(f"{json.dumps(k)} = {json.dumps(v)}" for k, v in values.items())]
    return "\n".join(lines).encode()


def check_dataset(folder: Path) -> str:
    """Read all of a dataset in every way; what refused it, or an empty string. Anything but InputError gets out."""
    try:
        manifest = read_manifest(folder)
        inside = folder.resolve()
        for file in (*(f for a in manifest.arrays.values() for f in a.files), *manifest.documents):
            assert (folder / file.file).resolve().is_relative_to(inside), file.file
        store.verify(folder)
        opened = store.open_dataset(folder)
        for name in LABELS:
            opened.read(name)
        opened.patterns(np.arange(opened.n))
    except InputError as error:
        return sentence(error)
    return ""


def check_shown(folder: Path) -> str:
    """Show, list and compare a dataset by its commands; what refused it, or an empty string."""
    said = ""
    for command in (["show", str(folder)], ["list", "--root", str(folder.parents[1])], ["diff", *[str(folder)] * 2]):
        done = CliRunner().invoke(app, command)
        if done.exception is not None:
            if not isinstance(done.exception, InputError):
                raise done.exception
            said = sentence(done.exception)
    return said


def check_recipe(file: Path) -> str:
    """Read a recipe as every command does; what refused it, or an empty string."""
    said = ""
    for reader in (load_recipe, lambda path: read_recipe(BuildingRecipe, path)):
        try:
            reader(file)
        except InputError as error:
            said = sentence(error)
    return said
