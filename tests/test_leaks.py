"""Near-duplicates across splits are counted: none of grains apart, most of pixels drawn one by one."""

import numpy as np
import pytest

from dpcurate.curate import build_dataset
from dpcurate.leaks import most_similar, unit
from dpcurate.manifests import read_manifest
from dpcurate.recipe import CurationRecipe
from tests.small_scan import small_index


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    return small_index(tmp_path_factory.getbasetemp())


def leak_of(index, root, split):
    rules = CurationRecipe(split=split)
    made = build_dataset([index], name=split, min_confidence=0.0, rules=rules, root=root, progress=False)
    return read_manifest(made).leak


def test_a_random_split_leaks_and_a_split_by_grain_shares_no_grain(index, tmp_path):
    random, grain = (leak_of(index, tmp_path, split) for split in ("random", "grain"))
    shares = [
        np.mean([one.near_duplicates / one.judged for one in leak.splits.values() if one.judged])
        for leak in (random, grain)
    ]
    assert shares[0] > 2 * shares[1]
    assert all(one.same_grain == 0 for one in grain.splits.values())
    assert sum(one.same_grain for one in random.splits.values()) > 0
    assert all(one.identical == 0 for one in random.splits.values())


def test_the_most_similar_vector_is_the_one_of_the_highest_correlation():
    rng = np.random.default_rng(0)
    known = unit(rng.normal(size=(50, 8)).astype(np.float32))
    best, row = most_similar(known[[7, 30]], known)
    assert row.tolist() == [7, 30]
    np.testing.assert_allclose(best, 1, atol=1e-6)
