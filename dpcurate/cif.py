"""CIF files: what must hold of one before it is read as a crystal, so that no wrong crystal comes of a wrong file."""

import io
import re
from collections.abc import Callable
from contextlib import redirect_stdout
from typing import Any

import numpy as np
from CifFile import CifFile, StarError
from CifFile.yapps3_compiled_rt import YappsSyntaxError
from diffpy.structure import Structure
from diffpy.structure.parsers import getParser
from diffpy.structure.structureerrors import StructureFormatError

from dpcurate.errors import InputError

OPERATOR_KEYS = ("_space_group_symop_operation_xyz", "_symmetry_equiv_pos_as_xyz", "_space_group_symop.operation_xyz")
LENGTH_KEYS = tuple(f"_cell_length_{axis}" for axis in "abc")
ANGLE_KEYS = tuple(f"_cell_angle_{angle}" for angle in ("alpha", "beta", "gamma"))
COORDINATE_KEYS = tuple(tuple(f"_atom_site_{kind}_{axis}" for axis in "xyz") for kind in ("fract", "cartn"))
LABEL_KEY = "_atom_site_label"
OCCUPANCY_KEY = "_atom_site_occupancy"
UNSTATED = (".", "?")
"""What a CIF says for a value that is not given; an occupancy is 1 then."""

NUMBER = re.compile(r"([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)(?:\(\d+\))?")
"""A number of a CIF, with or without its uncertainty in brackets."""

TERM = r"(?:[xyzXYZ]|\d{1,4}/[1-9]\d{0,3}|\d{1,4}\.\d{0,9}|\.\d{1,9}|\d{1,4})"
OPERATOR = re.compile(rf"(?:[-+]?{TERM}(?:[-+]{TERM})*)(?:,[-+]?{TERM}(?:[-+]{TERM})*){{2}}")
"""A symmetry operator such as ``x-y,-y+1/3,z``: sums of x, y, z and numbers. diffpy.structure 3.4 gives whatever else
stands between x, y and z to ``eval``, so an operator of another form could run as a program."""

READING_ERRORS = (
    *(StructureFormatError, StarError, YappsSyntaxError, OSError, ValueError, KeyError, TypeError, IndexError),
    *(NameError, SyntaxError, ArithmeticError, AttributeError),
)
"""What PyCifRW and diffpy.structure raise on broken files."""


def read_structure(text: str, *, name: str) -> tuple[Structure, list[Any], int, Any]:
    """Return whole-cell structure, symmetry operators, number of the space group (0: none), and block of a CIF's text.

    The block is the first one with atoms, a mapping of the CIF's keys.

    Raises
    ------
    InputError
        The text is no CIF, or cell, coordinates or operators are missing or make no crystal.
    """
    block = _first_with_atoms(text, name=name)
    _check_cell(block, name=name)
    _check_coordinates(block, name=name)
    _check_occupancies(block, name=name)
    _check_operators(block, name=name)
    parser = getParser("cif")
    structure = _reading(lambda: parser.parse(text), name=name)
    if not structure:
        raise InputError(f"{name}: has no atoms. A CIF with a cell, symmetry and atom sites is needed.")
    return structure, parser.spacegroup.symop_list, int(parser.spacegroup.number), block


def no_symmetry(name: str) -> InputError:
    """The error of a file that states no symmetry."""
    return InputError(f"{name}: states no symmetry. Add its space group and operators, or export the CIF anew.")


def _reading(read: Callable[[], Any], *, name: str) -> Any:
    """Return what ``read`` gives; a parser's error becomes one sentence."""
    try:
        with redirect_stdout(io.StringIO()):  # PyCifRW prints what it tries
            return read()
    except READING_ERRORS as error:
        if "unknown space group identifier ''" in str(error):
            raise no_symmetry(name) from error
        raise InputError(f"{name}: not readable as a CIF ({_first_line(error)}). Give a valid one.") from error


def _first_with_atoms(text: str, *, name: str) -> Any:
    """Return the block that diffpy.structure reads too."""
    file = _reading(lambda: CifFile(io.StringIO(text), grammar="auto"), name=name)
    found = next((file[key] for key in list(file.keys()) if LABEL_KEY in file[key]), None)
    if found is None:
        raise InputError(f"{name}: has no atoms ({LABEL_KEY}). A CIF with a cell, symmetry and atom sites is needed.")
    return found


def _check_cell(block: Any, *, name: str) -> None:
    lengths, angles = ([_number(block, key, name=name) for key in keys] for keys in (LENGTH_KEYS, ANGLE_KEYS))
    for key, value in zip(LENGTH_KEYS + ANGLE_KEYS, lengths + angles, strict=True):
        if value <= 0 or (key in ANGLE_KEYS and value >= 180):
            raise InputError(f"{name}: {key} is {block[key]}. Lengths above 0 and angles between 0 and 180 are needed.")
    cosines = np.cos(np.radians(angles))
    if 1 + 2 * cosines.prod() - np.square(cosines).sum() <= 1e-9:  # the square of the volume of a cell of unit edges
        raise InputError(f"{name}: its angles {', '.join(f'{a:g}' for a in angles)} make no cell. Correct them.")


def _number(block: Any, key: str, *, name: str) -> float:
    if key not in block:
        raise InputError(f"{name}: {key} is missing. A CIF with the whole cell is needed.")
    found = NUMBER.fullmatch(str(block[key]).strip())
    if not found:
        raise InputError(f"{name}: {key} is {block[key]}, and a number is needed. Correct the CIF.")
    return float(found[1])


def _check_coordinates(block: Any, *, name: str) -> None:
    """Every atom's coordinates must be numbers: diffpy.structure reads ``?`` and what is not there as 0."""
    keys = COORDINATE_KEYS[1] if COORDINATE_KEYS[1][0] in block else COORDINATE_KEYS[0]
    labels = _list(block[LABEL_KEY])
    for key in keys:
        if key not in block:
            raise InputError(f"{name}: {key} is missing. The coordinates of every atom are needed.")
        for label, value in zip(labels, _list(block[key]), strict=True):
            if not NUMBER.fullmatch(str(value).strip()):
                raise InputError(f"{name}: {key} of {label} is {value}, and a number is needed. Correct the CIF.")


def _check_occupancies(block: Any, *, name: str) -> None:
    """An occupancy is a share of atoms: from 0 to 1, a rounding error aside, and not 0 everywhere."""
    if OCCUPANCY_KEY not in block:
        return
    values = [str(value).strip() for value in _list(block[OCCUPANCY_KEY])]
    numbers = []
    for label, value in zip(_list(block[LABEL_KEY]), values, strict=True):
        found = NUMBER.fullmatch(value)
        share = float(found[1]) if found else 1.0 if value in UNSTATED else -1.0
        if not 0 <= share <= 1.01:
            raise InputError(f"{name}: {OCCUPANCY_KEY} of {label} is {value}, and 0 to 1 is needed. Correct the CIF.")
        numbers.append(share)
    if not any(numbers):
        raise InputError(f"{name}: {OCCUPANCY_KEY} is 0 for every atom, so there is no crystal. Correct the CIF.")


def _check_operators(block: Any, *, name: str) -> None:
    for operator in (operator for key in OPERATOR_KEYS if key in block for operator in _list(block[key])):
        if not OPERATOR.fullmatch(str(operator).replace(" ", "")):
            raise InputError(
                f"{name}: has the symmetry operator '{str(operator)[:60]}', and one such as x-y,-y,z+1/2 is expected. "
                "Export the CIF anew."
            )


def _list(values: Any) -> list[Any]:
    return [values] if isinstance(values, str) else list(values)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip(" =>.\t")]
    return lines[0][:120] if lines else type(error).__name__
