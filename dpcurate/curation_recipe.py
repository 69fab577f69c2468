"""The recipe of building a dataset: that of simulating, and the section `curation`."""

from dpcurate.recipe import CurationRecipe
from dpcurate.simulation_recipe import SimulatingRecipe


class BuildingRecipe(SimulatingRecipe):
    """Everything that decides a dataset; of the rest, `simulation` matters."""

    curation: CurationRecipe = CurationRecipe()
