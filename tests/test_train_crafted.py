import os

import pytest
import torch

from dpcurate.errors import InputError
from dptrain.checkpoint import load_model, load_state


class Crafted:
    """Makes a folder when it is unpickled without care."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def test_no_file_of_a_run_can_run_code(tmp_path):
    path, mark = tmp_path / "last.state.pt", tmp_path / "mark"
    torch.save({"config": Crafted(mark)}, path)
    with pytest.raises(InputError, match="damaged, so the run cannot go on"):
        load_state(path)
    with pytest.raises(InputError, match="cannot be read as a checkpoint"):
        load_model(path)
    assert not mark.exists()
    with path.open("rb") as stream:
        torch.load(stream, weights_only=False)
    assert mark.exists()
