"""Near-duplicates across splits are counted: none of grains apart, many of pixels drawn one by one."""

import numpy as np
import pytest

from dpcurate.curate import build_dataset
from dpcurate.leaks import OTHER_DEG, most_similar, unit
from dpcurate.orientations import disorientation_deg
from dpcurate.recipe import CurationRecipe
from dpcurate.store import open_dataset
from tests.crystals import LINIO2
from tests.small_scan import small_index


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    return small_index(tmp_path_factory.getbasetemp())


SEEDS = (0, 1, 2)
"""The scan has 14 grains: what one split by grain shares is luck, so several are added up."""


def datasets_of(index, root, split):
    rules = CurationRecipe(split=split)
    options = {"min_confidence": 0.0, "rules": rules, "root": root, "progress": False}
    return [open_dataset(build_dataset([index], name=f"{split}{seed}", seed=seed, **options)) for seed in SEEDS]


def splits_of(datasets):
    return [one for dataset in datasets for one in dataset.manifest.leak.splits.values()]


def share_of_duplicates(splits):
    """Near-duplicates that have the orientation of their twin too, so that its label answers for theirs."""
    return sum(one.near_duplicates - one.look_alikes for one in splits) / sum(one.judged for one in splits)


def assert_grains_differ(dataset):
    """Labels of different grains are over `OTHER_DEG` apart, so that none is a twin of another."""
    grain, q = dataset.read("grain_id"), dataset.read("orientation")
    apart = disorientation_deg(q[:, None], q[None], LINIO2.proper_rotations())
    other = grain[:, None] != grain
    assert apart[other].min() > OTHER_DEG


def test_a_random_split_leaks_and_a_split_by_grain_leaks_nothing(index, tmp_path):
    """By grain nothing is shared by construction. Drawn one by one, a pixel has training pixels of its grain around it.

    It is a near-duplicate if one of them is as similar as half of such pairs are, and shares its label if both are
    right or both wrong (0.8**2 + 0.2**2): over 0.34 of all pixels. A quarter leaves room for luck.
    """
    random, grain = (datasets_of(index, tmp_path, split) for split in ("random", "grain"))
    assert_grains_differ(grain[0])
    assert all(one.same_grain == 0 for one in splits_of(grain))
    assert share_of_duplicates(splits_of(grain)) == 0
    assert share_of_duplicates(splits_of(random)) > 0.25
    assert all(one.same_grain > one.judged / 2 for one in splits_of(random))
    assert all(one.identical == 0 for one in splits_of(random) + splits_of(grain))


def test_the_most_similar_vector_is_the_one_of_the_highest_correlation():
    rng = np.random.default_rng(0)
    known = unit(rng.normal(size=(50, 8)).astype(np.float32))
    best, row = most_similar(known[[7, 30]], known)
    assert row.tolist() == [7, 30]
    np.testing.assert_allclose(best, 1, atol=1e-6)
