"""What README and docs say is true: files, links, commands, Python names and keys are there."""

import ast
import inspect
import json
import re
import shlex
import tomllib

import pytest
import typer
from pydantic import BaseModel
from typer.testing import CliRunner

import dpcurate
from dpcurate import cli as curate_cli
from dpcurate.curation_recipe import BuildingRecipe
from dpcurate.recipe import read_recipe
from dpcurate.schema import LABELS
from dpcurate.simulation_recipe import SimulatingRecipe
from dptrain import cli as train_cli
from tests.modules import LEFT_TO_RIGHT, MAP, ROOT, file_map, module_files

README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "datasets").glob("**/*.md"))]
PAGES = [path for path in PAGES if path.name != "card.md"]
APPS = {"dpcurate": curate_cli.app, "dptrain": train_cli.app}
TARGETS = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
OTHER_PROGRAMS = {"source", "pip", "python", "bash", "sbatch"}


def blocks(path, language):
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def shown_commands():
    """Every command line of a page, as (page, words); settings of the environment before it are left out."""
    for path in PAGES:
        for block in blocks(path, "bash"):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                while words and "=" in words[0]:
                    words = words[1:]
                if words:
                    yield path.name, words


def parse(words):
    """Parse a command line of dpcurate or dptrain as it would be, without running it."""
    command, rest = typer.main.get_command(APPS[words[0]]), words[1:]
    while hasattr(command, "commands"):
        command, rest = command.commands[rest[0]], rest[1:]
    command.make_context(words[0], list(rest))


def commands_of(command, path=()):
    """Every command below one, as words to be written."""
    if not hasattr(command, "commands"):
        return [path]
    return [found for name, inner in command.commands.items() for found in commands_of(inner, (*path, name))]


def documented_keys(path):
    """Rows `key` | `default` of a page's tables."""
    return dict(re.findall(r"^\| `([\w.]+)` \| (`.+?`|none) \|", path.read_text(encoding="utf-8"), re.MULTILINE))


def keys_of(record, prefix=""):
    """Dotted keys of a pydantic record and their defaults."""
    found = {}
    for name in type(record).model_fields:
        value = getattr(record, name)
        if isinstance(value, BaseModel):
            found |= keys_of(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found


def test_the_file_map_of_the_readme_is_complete_and_true():
    written = MAP.search(README.read_text(encoding="utf-8"))
    assert written is not None
    listed = re.findall(r"`(dp(?:curate|train)/[\w/]+\.py)`", written[0])
    there = [path.relative_to(ROOT).as_posix() for name in LEFT_TO_RIGHT for path in module_files(name).values()]
    assert sorted(listed) == sorted(there)
    assert written[0] == file_map(), "run: python -m tests.modules"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_of_a_page_lead_somewhere(path):
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text(encoding="utf-8"))
    assert [to for to in targets if "://" not in to and not (path.parent / to).exists()] == []


def test_every_page_of_docs_can_be_reached_from_the_readme():
    text = README.read_text(encoding="utf-8")
    assert [path.name for path in (ROOT / "docs").glob("*.md") if f"(docs/{path.name})" not in text] == []


def test_every_command_shown_is_one_that_the_programs_understand():
    shown = list(shown_commands())
    assert len(shown) > 20
    for page, words in shown:
        if words[0] in APPS:
            parse(words)
        elif words[0] == "make":
            assert words[1] in TARGETS, f"{page}: {words}"
        elif words[0] == "torchrun":
            parse(["dptrain", *words[words.index("dptrain.cli") + 1 :]])
        else:
            assert words[0] in OTHER_PROGRAMS, f"{page}: {words}"


def test_a_command_line_that_is_not_understood_would_be_noticed():
    with pytest.raises(Exception, match="No such option"):
        parse(["dpcurate", "index", "scan.hspy", "--no-such-option"])


@pytest.mark.parametrize("name", APPS)
def test_every_command_has_help_with_an_example_that_it_understands(name):
    for path in commands_of(typer.main.get_command(APPS[name])):
        shown = CliRunner().invoke(APPS[name], [*path, "--help"], env={"COLUMNS": "200"})
        assert shown.exit_code == 0
        command = typer.main.get_command(APPS[name])
        for word in path:
            command = command.commands[word]
        example = re.search(rf"Example: ({name} .*)", command.help or "")
        assert example, f"{name} {' '.join(path)} has no example"
        parse(shlex.split(example[1]))


@pytest.mark.parametrize("path", [README, ROOT / "docs" / "guide.md"], ids=lambda path: path.name)
def test_python_shown_calls_what_is_there(path):
    for block in blocks(path, "python"):
        tree = ast.parse(block)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                module = __import__(node.module, fromlist=["all"])
                assert all(hasattr(module, alias.name) for alias in node.names)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                if not (isinstance(node.func.value, ast.Name) and node.func.value.id == "dpcurate"):
                    continue
                known = inspect.signature(getattr(dpcurate, node.func.attr))
                known.bind(*node.args, **{keyword.arg: None for keyword in node.keywords})


def test_the_recipe_page_lists_every_key_with_its_default():
    documented = documented_keys(ROOT / "docs" / "recipe.md")
    keys = keys_of(BuildingRecipe())
    assert documented.keys() == keys.keys()
    for key, default in keys.items():
        value = None if documented[key] == "none" else json.loads(documented[key].strip("`"))
        assert value == (list(default) if isinstance(default, tuple) else default), key


@pytest.mark.parametrize("path", [ROOT / "docs" / "recipe.md", ROOT / "docs" / "guide.md"], ids=lambda path: path.name)
def test_recipes_shown_are_recipes(path, tmp_path):
    shown = blocks(path, "toml")
    assert shown
    for block in shown:
        (tmp_path / "shown.toml").write_text(block, encoding="utf-8")
        assert read_recipe(SimulatingRecipe, tmp_path / "shown.toml").phases


def test_the_formats_page_lists_every_array_of_a_dataset_with_its_dtype():
    text = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    for name, label in LABELS.items():
        assert re.search(rf"^\| `{name}` \| {label.dtype} \| {', '.join(label.parts)}", text, re.MULTILINE), name


def test_every_dependency_has_its_reason():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [
        *project["dependencies"],
        *(name for extra in project["optional-dependencies"].values() for name in extra),
    ]
    text = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    told = {name for row in re.findall(r"^\| ([\w., -]+) \|", text, re.MULTILINE) for name in row.split(", ")}
    missing = {re.split(r"[<>=\[]", requirement)[0] for requirement in wanted} - told
    assert missing == set()
