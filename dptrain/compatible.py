"""Whether data fit a trained network: the same phases, and patterns that reach as far as it looks."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dpcurate.errors import InputError
from dpcurate.schema import PhaseRecord

LATTICE_TOLERANCE = 0.02
"""Relative; cells that differ by less are the same phase, such as two refinements of one compound."""

LEAST_REACH = 0.8
"""Of the network's reach that patterns must have: with less, over a third of the area of its frame would be empty."""


def phase_numbers(known: Sequence[PhaseRecord], given: Sequence[PhaseRecord], *, what: str) -> NDArray[np.int16]:
    """For each ``given`` phase its number among those that a network knows, ``(n_given,)``.

    Names do not matter: space group, lattice and symmetry do. ``what`` holds the given phases, such as a dataset's
    folder. Raises InputError, naming both, when the network does not know one of them.
    """
    numbers = []
    for phase in given:
        same = [number for number, other in enumerate(known) if _same(phase, other)]
        if not same:
            raise InputError(
                f"{what}: holds phase {_told(phase)}, and this network was trained on "
                f"{' and '.join(map(_told, known))}. Give data of these phases, or a network trained on that one."
            )
        numbers.append(same[0])
    return np.array(numbers, np.int16)


def check_reach(reach_inv_angstrom: float, k_max: float, *, what: str, size: tuple[int, ...]) -> None:
    """InputError when patterns of ``size`` pixels reach much less far from the direct beam than a network looks.

    The number of pixels is free, for patterns are resampled; what they show is not.
    """
    if reach_inv_angstrom < LEAST_REACH * k_max:
        raise InputError(
            f"{what}: its patterns ({size[0]} x {size[1]} pixels) reach {reach_inv_angstrom:.3g} 1/Å from the direct "
            f"beam, and this network was trained to look as far as {k_max:.3g}. Check scale and centre, or take a "
            "network trained on patterns of this reach."
        )


def _same(one: PhaseRecord, other: PhaseRecord) -> bool:
    return (
        one.space_group == other.space_group
        and len(one.symmetry) == len(other.symmetry)
        and bool(np.allclose(one.lattice, other.lattice, rtol=LATTICE_TOLERANCE))
        and bool(np.allclose(one.symmetry, other.symmetry, atol=1e-6))
    )


def _told(phase: PhaseRecord) -> str:
    a, b, c = phase.lattice[:3]
    return f"{phase.name} (space group {phase.space_group}, {a:.4g} x {b:.4g} x {c:.4g} Å)"
