"""The recipe: every choice of an indexing run, from defaults, a TOML file and options, in rising order of authority."""

import re
import tomllib
from math import isfinite
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, Field, ValidationError, model_validator

from dpcurate.errors import InputError
from dpcurate.schema import Record

DEFAULT_RECIPE = "dpcurate.toml"
"""Read from the working folder when no recipe is named."""

OTHER_SECTIONS = ("simulation", "virtual_scan", "curation")
"""Sections that only the commands that simulate and build know and check: indexing needs nothing of them."""

OFF = "off"
"""TOML has no None."""


class ScanRecipe(Record):
    """Calibration of the scan; a value given here overrules the scan's own metadata."""

    scale_inv_angstrom: float | None = Field(None, gt=0, description="1/Angstrom per detector pixel")
    center_xy: tuple[float, float] | None = Field(None, description="direct beam (column, row) in pixels")
    beam_energy_kev: float | None = Field(None, gt=0)
    precession_deg: float | None = Field(None, ge=0, lt=10, description="half-angle of the precession cone")
    step_nm: float | None = Field(None, gt=0)
    flip: bool = Field(False, description="mirror every pattern top to bottom, before anything else")
    rotation_deg: float | None = Field(None, description="turns the detector's x and y onto the scan's")


class PreprocessRecipe(Record):
    """From pattern to what is matched. Defaults: measured in docs/results/baseline.md."""

    background: str = Field("radial-median", pattern="^(radial-median|none)$")
    intensity: str = Field("log", pattern="^(log|power)$", description="of patterns, in the fast engine")
    floor: float = Field(0.1, gt=0, description="of the logarithm, in means of a pattern above its background")
    power: float = Field(0.25, gt=0, le=1, description="of templates, and of patterns where no logarithm is taken")
    ring_power: float = Field(0.75, ge=0, le=2, description="weight of a ring: its radius to this power")
    mask: str | None = Field(None, description="file (.npy or an image) of detector pixels that do not count")
    subtract_mean: bool = True
    k_min_inv_angstrom: float = Field(0.15, gt=0, description="radii below hold the direct beam")
    k_max_inv_angstrom: float | None = Field(None, gt=0, description="default: as far as spots reach, at most 1.5")
    n_radius: int = Field(100, ge=10)
    n_azimuth: int = Field(360, ge=36)


class LibraryRecipe(Record):
    """How templates are simulated."""

    spacing_deg: float = Field(2.0, ge=0.2, le=15, description="between neighbouring zone axes")
    max_excitation_error: float = Field(0.02, gt=0, description="1/Angstrom")
    thickness_angstrom: float = Field(200.0, ge=20, le=5000, description="of the plate whose rocking curve is taken")


class MatchingRecipe(Record):
    """How patterns are matched and what is kept."""

    engine: str = Field("fast", pattern="^(pyxem|fast)$", description="our own matching; or pyxem's, corrected")
    score: str = Field("own", pattern="^(own|pyxem)$", description="of the fast engine: its own, or pyxem's")
    recalibrate: bool = Field(True, description="fit direct beam and scale to the matches first")
    device: str = Field("cpu", pattern="^(cpu|cuda)$", description="where the fast engine computes")
    n_best: int = Field(20, ge=2)
    runner_up_deg: float = Field(10.0, gt=0, description="how far the rival lies that reliability compares with")


class NeighboursRecipe(Record):
    """How pixels help each other after each was matched by itself."""

    pool: bool = Field(True, description="pool the evidence of neighbours; off: every pixel keeps its own best match")
    dynamics: bool = Field(True, description="judge grains whose rivals score alike by dynamical scattering")
    overlap: bool = Field(True, description="take apart patterns that hold two grains")
    noise: bool = Field(True, description="do not index lonely pixels that score no better than noise")


class GrainRecipe(Record):
    """How pixels are joined to grains."""

    boundary_deg: float = Field(5.0, gt=0)
    min_pixels: int = Field(5, ge=1, description="smaller pieces join the neighbour they touch most")


class CurationRecipe(Record):
    """What of an index goes into a dataset, into which split, in which order, and what its metadata say."""

    min_confidence: float = Field(0.8, ge=0, le=1, description="labels below are left out")
    max_per_grain: int | None = Field(None, ge=1, description="most patterns of a grain")
    balance: float | None = Field(
        None, ge=1, description="most patterns of an orientation cell, in medians of all cells"
    )
    cell_deg: float = Field(10.0, ge=1, le=60, description="width of such a cell")
    sample: int | None = Field(None, ge=1, description="so many of what is left")
    sample_by: str = Field("random", pattern="^(random|confidence)$", description="all alike, or strata of confidence")
    split: str = Field("grain", pattern="^(grain|block|region|scan|random)$", description="what is split as a whole")
    fractions: tuple[float, float, float] = Field((0.7, 0.15, 0.15), description="training, validation, test")
    block_pixels: int = Field(8, ge=1, description="side of a block, for split = block")
    order: str = Field("scan", pattern="^(scan|confidence)$", description="as in the scan, or the most confident first")
    patterns_per_shard: int = Field(1024, ge=1, le=1 << 20, description="in one file; labels have 64 times as many")
    license: str | None = Field(None, description="its licence: an SPDX identifier or a link")

    @model_validator(mode="after")
    def _fractions_are_shares(self) -> "CurationRecipe":
        if min(self.fractions) <= 0 or abs(sum(self.fractions) - 1) > 1e-9:
            raise ValueError(f"fractions {self.fractions} must be positive and sum to 1")
        return self


class Recipe(Record):
    """Everything that decides the outcome of `dpcurate index`."""

    phases: tuple[str, ...] = ()
    scan: ScanRecipe = ScanRecipe()
    preprocess: PreprocessRecipe = PreprocessRecipe()
    library: LibraryRecipe = LibraryRecipe()
    matching: MatchingRecipe = MatchingRecipe()
    neighbours: NeighboursRecipe = NeighboursRecipe()
    grains: GrainRecipe = GrainRecipe()

    @model_validator(mode="after")
    def _radii_are_ordered(self) -> "Recipe":
        k_max = self.preprocess.k_max_inv_angstrom
        if k_max is not None and k_max <= self.preprocess.k_min_inv_angstrom:
            raise ValueError(f"k_max_inv_angstrom ({k_max}) must be above k_min_inv_angstrom")
        return self


R = TypeVar("R", bound=Recipe)


def load_recipe(path: str | Path | None = None, **overrides: object) -> Recipe:
    """Return the recipe of a TOML file (default: `dpcurate.toml` here, if there is one) with options laid over it.

    See `read_recipe`. Sections that belong to other commands (`OTHER_SECTIONS`) are left to them.
    """
    return read_recipe(Recipe, path, **overrides)


def read_recipe(kind: type[R], path: str | Path | None = None, **overrides: object) -> R:
    """Return the recipe of one kind of command, as `load_recipe` does.

    ``overrides`` are ``section__key=value``, to any depth, or ``phases=...``; None means not given. Files that the
    recipe names are taken relative to it; the recipe returned holds full paths of phases, so that it can be used again
    anywhere. The word "off" stands for None. Raises InputError for a missing file, broken TOML, unknown keys and values
    out of range.
    """
    if path is None and Path(DEFAULT_RECIPE).is_file():
        path = DEFAULT_RECIPE
    tree = _found(_read_toml(Path(path)), Path(path).parent) if path is not None else {}
    tree = {key: value for key, value in tree.items() if key in kind.model_fields or key not in OTHER_SECTIONS}
    for key, value in overrides.items():
        if value is not None:
            _lay_over(tree, key.split("__"), value)
    try:
        recipe = kind.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "recipe"
        name = Path(path).name if path is not None else "options"
        message = first["msg"].removeprefix("Value error, ")
        given = "" if isinstance(first["input"], (dict, BaseModel)) else f", given {first['input']!r}"
        raise InputError(f"{name}: {where}: {message}{given}. See docs/recipe.md for every key.") from error
    return recipe.model_copy(update={"phases": tuple(str(Path(phase).resolve()) for phase in recipe.phases)})


def _found(tree: dict, folder: Path) -> dict:
    """A TOML tree with the files that it names relative to its folder, and "off" read as None."""
    tree = {key: _switched(value) for key, value in tree.items()}
    if isinstance(tree.get("phases"), list):
        tree["phases"] = [str(folder / str(phase)) for phase in tree["phases"]]
    for name, key in (("virtual_scan", "microstructure"), ("preprocess", "mask")):
        section = tree.get(name)
        if isinstance(section, dict) and isinstance(section.get(key), str):
            section[key] = str(folder / section[key])
    return tree


def _switched(value: object) -> object:
    if isinstance(value, dict):
        return {key: _switched(inner) for key, inner in value.items()}
    return None if value == OFF else value


def _lay_over(tree: dict, keys: list[str], value: object) -> None:
    """Put a value into nested tables."""
    for key in keys[:-1]:
        inner = tree.get(key, {})
        tree[key] = tree = dict(inner) if isinstance(inner, dict) else {}
    tree[keys[-1]] = value


def parse_center(text: str | None) -> tuple[float, float] | None:
    """Return (column, row) from the option ``--center COLUMN,ROW``; None if it was not given."""
    if text is None:
        return None
    try:
        column, row = (float(part) for part in text.split(","))
        if not (isfinite(column) and isfinite(row)):
            raise ValueError(text)
    except ValueError as error:
        raise InputError(f"--center {text}: expected COLUMN,ROW in pixels, such as 64.2,63.8.") from error
    return column, row


def recipe_toml(recipe: Record) -> str:
    """Return a recipe as TOML that `read_recipe` reads back; what is None is left out, or "off" if it is no default."""
    return "\n".join(_toml_table(_settings(recipe), ())).strip() + "\n"


def _settings(record: Record) -> dict[str, object]:
    """Settings of a record and the records in it; None where it is the default is left out, "off" elsewhere."""
    found: dict[str, object] = {}
    for name, field in type(record).model_fields.items():
        value = getattr(record, name)
        if value is not None:
            found[name] = _plain(value)
        elif field.get_default(call_default_factory=True) is not None:
            found[name] = OFF
    return found


def _plain(value: object) -> object:
    if isinstance(value, Record):
        return _settings(value)
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, (tuple, list)) else value


def _toml_table(table: dict, path: tuple[str, ...]) -> list[str]:
    """Lines of a table, then of the tables in it."""
    inner = {key: value for key, value in table.items() if isinstance(value, dict)}
    lines = [f"{_toml_key(key)} = {_toml_value(value)}" for key, value in table.items() if key not in inner]
    if path and (lines or not inner):
        lines = ["", f"[{'.'.join(map(_toml_key, path))}]", *lines]
    for key, value in inner.items():
        lines += _toml_table(value, (*path, key))
    return lines


def _toml_key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _toml_value(key)


def _toml_value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ", ".join(_toml_value(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml_key(key)} = {_toml_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return repr(value)


def _read_toml(path: Path) -> dict:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such recipe. Give a TOML file with --recipe.") from error
    except (ValueError, RecursionError, OSError) as error:  # no TOML, no UTF-8, too many digits, nested without end
        raise InputError(f"{path.name}: not readable as TOML ({error}). See docs/recipe.md for an example.") from error
