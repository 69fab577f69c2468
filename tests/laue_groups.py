"""The eleven Laue groups by name: their proper rotations as orix has them, and phases that have nothing else."""

from orix.quaternion import symmetry

from tests.conftest import phase

ORIX = {
    "-1": symmetry.Ci,
    "2/m": symmetry.C2h,
    "mmm": symmetry.D2h,
    "-3": symmetry.S6,
    "-3m": symmetry.D3d,
    "4/m": symmetry.C4h,
    "4/mmm": symmetry.D4h,
    "6/m": symmetry.C6h,
    "6/mmm": symmetry.D6h,
    "m-3": symmetry.Th,
    "m-3m": symmetry.Oh,
}
ROTATIONS = {name: group.laue_proper_subgroup.data for name, group in ORIX.items()}
PHASES = {
    name: phase(name, space_group=1, point_group=name, lattice=(3, 3, 3, 90, 90, 90), symmetry=group, elements=[])
    for name, group in ROTATIONS.items()
}
