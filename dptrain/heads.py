"""The heads by name: `--head grid`, `density`, `harmonics`, `rotation` or `euler`; made anew, or as saved."""

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from dpcurate.errors import InputError
from dpcurate.schema import PhaseRecord
from dptrain.config import HeadConfig
from dptrain.density_head import DensityHead
from dptrain.euler_head import EulerHead
from dptrain.grid_head import GridHead, grid_cells
from dptrain.harmonics_head import HarmonicsHead
from dptrain.head import Head
from dptrain.rotation_head import RotationHead


def grid_head(phases: Sequence[PhaseRecord], config: HeadConfig) -> GridHead:
    """The grid or density head of these phases, its cells made from the config."""
    cells, cell_phase = grid_cells(phases, config)
    return ON_GRIDS[config.name](phases, config, cells=cells, cell_phase=cell_phase)


ON_GRIDS = {"grid": GridHead, "density": DensityHead}

HEADS: dict[str, Callable[[Sequence[PhaseRecord], HeadConfig], Head]] = {
    "grid": grid_head,
    "density": grid_head,
    "rotation": RotationHead,
    "euler": EulerHead,
    "harmonics": HarmonicsHead,
}


def build_head(phases: Sequence[PhaseRecord], config: HeadConfig) -> Head:
    """The head that a config names, for these phases."""
    return HEADS[config.name](phases, config)


def saved_head(phases: Sequence[PhaseRecord], config: HeadConfig, state: Mapping[str, Tensor]) -> Head:
    """The head that was saved with a network: ``state`` are its tensors by name.

    Raises
    ------
    InputError
        The tensors are those of another head. The sentence begins in the middle; the caller names the file.
    """
    if config.name in ON_GRIDS:
        if not {"cells", "cell_phase"} <= state.keys():
            raise InputError(f"the head's cells are missing (found {_told(state)}); train again or copy it again.")
        cells, cell_phase = state["cells"].numpy(), state["cell_phase"].numpy()
        head: Head = ON_GRIDS[config.name](phases, config, cells=cells, cell_phase=cell_phase)
    else:
        head = build_head(phases, config)
    own = head.state_dict()
    fits = own.keys() == state.keys() and all(own[name].shape == state[name].shape for name in own)
    if not fits:
        raise InputError(
            f"its tensors are not those of the {config.name} head (expected {_told(own)}, found {_told(state)}); train "
            "again with this head, or give the checkpoint that belongs to the config."
        )
    head.load_state_dict(dict(state))
    return head


def _told(state: Mapping[str, Tensor]) -> str:
    return ", ".join(sorted(state)) or "none"
