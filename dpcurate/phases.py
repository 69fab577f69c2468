"""Crystal phases: CIF files to records of the whole cell with the symmetry of the space group's own operators."""

from pathlib import Path
from typing import Any

import numpy as np
from diffpy.structure import Atom as DiffpyAtom
from diffpy.structure import Lattice, Structure
from diffpy.structure.parsers import getParser
from diffpy.structure.spacegroups import GetSpaceGroup
from diffpy.structure.structureerrors import StructureFormatError
from diffpy.structure.symmetryutilities import ExpandAsymmetricUnit
from orix.crystal_map import Phase
from scipy.spatial.transform import Rotation

from dpcurate.errors import InputError
from dpcurate.schema import Atom, PhaseRecord

NUMBER_KEYS = ("_space_group_IT_number", "_symmetry_Int_Tables_number")
NAME_KEYS = (
    "_space_group_name_H-M_alt",
    "_symmetry_space_group_name_H-M",
    "_space_group_name_Hall",
    "_symmetry_space_group_name_Hall",
)
OPERATOR_KEYS = ("_space_group_symop_operation_xyz", "_symmetry_equiv_pos_as_xyz", "_space_group_symop.operation_xyz")


def read_cif(path: str | Path) -> PhaseRecord:
    """Return the phase that a CIF file describes, with all atoms of its cell.

    Raises
    ------
    InputError
        If the file is missing or unreadable, states no symmetry, or lists operators that do not agree with its space
        group number (such a file would load as P1 with most atoms missing).
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file. A phase is a CIF file: give one with --phase.")
    parser = getParser("cif")
    try:
        structure = parser.parseFile(str(path))
    except (StructureFormatError, ValueError, KeyError, TypeError, IndexError) as error:
        if "unknown space group identifier ''" in str(error):
            raise _no_symmetry(path.name) from error
        raise InputError(f"{path.name}: not readable as a CIF ({_first_line(error)}). Give a valid one.") from error
    if not structure:
        raise InputError(f"{path.name}: has no atoms. A CIF with a cell, symmetry and atom sites is needed.")
    number = _checked_space_group(parser, path.name)
    name = path.stem.removeprefix("crystals_")
    return phase_record(structure, parser.spacegroup.symop_list, name=name, space_group=number)


def phase_record(structure: Structure, operators: list, *, name: str, space_group: int) -> PhaseRecord:
    """Record of a phase from its whole-cell structure and its symmetry operators (fractional, with attribute ``R``).

    Coordinates are taken from ``structure`` as it came: orix turns the lattice so that x runs along a and leaves the
    atoms where they were, so the coordinates in its own ``phase.structure`` are no fractions of its cell (diffsims
    turns them back).
    """
    phase = Phase(name=name, space_group=space_group, structure=structure)
    cell = phase.structure.lattice
    atoms = tuple(
        Atom(
            element=atom.element,
            x=float(atom.x),
            y=float(atom.y),
            z=float(atom.z),
            occupancy=float(atom.occupancy),
            u_iso_angstrom2=float(atom.Uisoequiv),
        )
        for atom in structure
    )
    symmetry = _proper_rotations([operator.R for operator in operators], cell.base)
    return PhaseRecord(
        name=name,
        space_group=space_group,
        point_group=phase.point_group.laue.name,
        lattice=tuple(round(float(value), 6) for value in cell.abcABG()),
        atoms=atoms,
        symmetry=tuple(tuple(float(component) for component in q) for q in symmetry),
    )


def phase_from_cell(
    name: str, space_group: int, *, lattice: tuple[float, ...], sites: list[tuple[str, float, float, float]]
) -> PhaseRecord:
    """Record of a phase from a space group in diffpy's standard setting, a cell (Angstrom, degrees) and its sites."""
    group = GetSpaceGroup(space_group)
    whole_cell = ExpandAsymmetricUnit(group, [position for _, *position in sites]).expandedpos
    atoms = [DiffpyAtom(site[0], xyz) for site, places in zip(sites, whole_cell, strict=True) for xyz in places]
    structure = Structure(atoms, Lattice(*lattice))
    return phase_record(structure, group.symop_list, name=name, space_group=space_group)


def orix_phase(record: PhaseRecord) -> Phase:
    """Return the orix phase of a record, whole cell included, ready for diffsims."""
    atoms = [
        DiffpyAtom(a.element, [a.x, a.y, a.z], occupancy=a.occupancy, Uisoequiv=a.u_iso_angstrom2) for a in record.atoms
    ]
    structure = Structure(atoms, Lattice(*record.lattice))
    return Phase(name=record.name, space_group=record.space_group, structure=structure)


def _proper_rotations(fractional: list[np.ndarray], base: np.ndarray) -> np.ndarray:
    """Quaternions of the proper Laue group in the crystal frame; ``base`` holds a, b, c as rows, Angstrom."""
    to_cartesian = np.asarray(base).T
    cartesian = [to_cartesian @ matrix @ np.linalg.inv(to_cartesian) for matrix in fractional]
    proper = np.array([matrix * np.sign(np.linalg.det(matrix)) for matrix in cartesian])
    _, first = np.unique(proper.round(4).reshape(len(proper), 9) + 0.0, axis=0, return_index=True)
    return Rotation.from_matrix(proper[np.sort(first)]).as_quat(scalar_first=True)


def _checked_space_group(parser: Any, name: str) -> int:
    """Return the space group's number, once the file's own operators were found to agree with it."""
    block = parser.ciffile[parser.ciffile.keys()[0]]
    stated = next((str(block[key]) for key in NUMBER_KEYS if key in block), None)
    if not any(key in block for key in NUMBER_KEYS + NAME_KEYS + OPERATOR_KEYS):
        raise _no_symmetry(name)
    found = parser.spacegroup
    n_found = len({tuple(np.ravel(operator.R)) for operator in found.symop_list})
    if stated is not None and stated.isdigit() and 1 <= int(stated) <= 230:
        n_stated = len({tuple(np.ravel(operator.R)) for operator in GetSpaceGroup(int(stated)).symop_list})
        if n_stated != n_found:
            raise InputError(
                f"{name}: states space group {stated} ({n_stated} point operations) but its operators make {n_found}. "
                "Export the CIF with all symmetry operators."
            )
        return int(stated)
    return int(found.number) if 1 <= int(found.number) <= 230 else 1


def _no_symmetry(name: str) -> InputError:
    return InputError(f"{name}: states no symmetry. Add its space group and operators, or export the CIF anew.")


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip(" =>.\t")]
    return lines[0][:120] if lines else type(error).__name__
