"""Phases of several Laue groups for tests, by their space groups and published cells."""

from dpcurate.phases import phase_from_cell, read_cif

LINIO2 = read_cif("datasets/phases/LiNiO2.cif")
NICKEL = read_cif("datasets/phases/Ni.cif")
TITANIUM = phase_from_cell("Ti", 194, lattice=(2.951, 2.951, 4.684, 90, 90, 120), sites=[("Ti", 1 / 3, 2 / 3, 0.25)])
CEMENTITE = phase_from_cell(
    "Fe3C",
    62,
    lattice=(5.091, 6.743, 4.526, 90, 90, 90),
    sites=[("Fe", 0.036, 0.25, 0.852), ("Fe", 0.186, 0.063, 0.328), ("C", 0.89, 0.25, 0.45)],
)
ILMENITE = phase_from_cell(
    "FeTiO3",
    148,
    lattice=(5.088, 5.088, 14.085, 90, 90, 120),
    sites=[("Fe", 0, 0, 0.355), ("Ti", 0, 0, 0.146), ("O", 0.317, 0.023, 0.245)],
)
BADDELEYITE = phase_from_cell(
    "ZrO2",
    14,
    lattice=(5.15, 5.21, 5.317, 90, 99.2, 90),
    sites=[("Zr", 0.276, 0.04, 0.208), ("O", 0.07, 0.332, 0.345), ("O", 0.45, 0.757, 0.479)],
)
BY_LAUE_GROUP = {
    "-3m": LINIO2,
    "m-3m": NICKEL,
    "6/mmm": TITANIUM,
    "mmm": CEMENTITE,
    "-3": ILMENITE,
    "2/m": BADDELEYITE,
}
N_PROPER = {"-3m": 6, "m-3m": 24, "6/mmm": 12, "mmm": 4, "-3": 3, "2/m": 2}
