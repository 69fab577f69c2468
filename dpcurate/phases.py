"""Crystal phases: CIF files to records of the whole cell with the symmetry of the space group's own operators."""

from pathlib import Path
from typing import Any

import numpy as np
from diffpy.structure import Atom as DiffpyAtom
from diffpy.structure import Lattice, Structure
from diffpy.structure.spacegroups import GetSpaceGroup
from diffpy.structure.symmetryutilities import ExpandAsymmetricUnit
from diffsims.utils.sim_utils import get_scattering_params_dict
from orix.crystal_map import Phase
from scipy.spatial.transform import Rotation

from dpcurate.cif import OPERATOR_KEYS, no_symmetry, read_structure
from dpcurate.errors import InputError
from dpcurate.schema import Atom, PhaseRecord, ScatteringFactor

NUMBER_KEYS = ("_space_group_IT_number", "_symmetry_Int_Tables_number")
NAME_KEYS = (
    "_space_group_name_H-M_alt",
    "_symmetry_space_group_name_H-M",
    "_space_group_name_Hall",
    "_symmetry_space_group_name_Hall",
)


def read_cif(path: str | Path) -> PhaseRecord:
    """Return the phase that a CIF file describes, with all atoms of its cell.

    Raises
    ------
    InputError
        If the file is missing or unreadable, lacks cell or coordinates, states no symmetry, or lists operators that do
        not agree with its space group number (such a file would load as P1 with most atoms missing).
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file. A phase is a CIF file: give one with --phase.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path.name}: not readable as a CIF ({error}). Save it as UTF-8 text.") from error
    structure, operators, found, block = read_structure(text, name=path.name)
    number = _checked_space_group(block, operators, found=found, name=path.name)
    return phase_record(structure, operators, name=path.stem.removeprefix("crystals_"), space_group=number)


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
        scattering=_scattering({atom.element for atom in atoms}, name=name),
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


def _scattering(elements: set[str], *, name: str) -> tuple[ScatteringFactor, ...]:
    """Scattering factors from diffsims' table; InputError names the elements that are not in it."""
    table = get_scattering_params_dict("lobato")
    unknown = sorted(elements - table.keys())
    if unknown:
        raise InputError(f"phase {name}: no scattering factor of {', '.join(unknown)}. Correct the element in the CIF.")
    return tuple(
        ScatteringFactor(element=element, terms=tuple(float(value) for value in np.ravel(table[element])))
        for element in sorted(elements)
    )


def _checked_space_group(block: Any, operators: list[Any], *, found: int, name: str) -> int:
    """Return the space group's number, once the file's own operators were found to agree with it."""
    stated = next((str(block[key]) for key in NUMBER_KEYS if key in block), None)
    if not any(key in block for key in NUMBER_KEYS + NAME_KEYS + OPERATOR_KEYS):
        raise no_symmetry(name)
    if stated is not None and stated.isdigit() and 1 <= int(stated) <= 230:
        n_found, n_stated = (_point_operations(some) for some in (operators, GetSpaceGroup(int(stated)).symop_list))
        if n_stated != n_found:
            raise InputError(
                f"{name}: states space group {stated} ({n_stated} point operations) but its operators make {n_found}. "
                "Export the CIF with all symmetry operators."
            )
        return int(stated)
    return found if 1 <= found <= 230 else 1


def _point_operations(operators: list[Any]) -> int:
    """Return how many there are, translations aside."""
    return len({tuple(np.ravel(operator.R)) for operator in operators})
