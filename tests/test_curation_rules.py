"""The rules of curation: caps hold, balance evens out, samples are as large as asked, symmetry changes no cell."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpcurate.curation_rules import (
    Rows,
    apply_rules,
    at_most,
    by_confidence,
    cell_cap,
    draw,
    phase_cells,
    shared_out,
    zone_cells,
)
from dpcurate.errors import InputError
from dpcurate.orientations import multiply, random_uniform
from dpcurate.recipe import CurationRecipe
from dpcurate.splits import blocks, split_regions
from tests.conftest import CUBIC, TRIGONAL

SYMMETRIES = [CUBIC.proper_rotations(), TRIGONAL.proper_rotations()]
counts = st.lists(st.integers(0, 40), min_size=1, max_size=10).map(np.array)


def rows_of(n, seed=0):
    rng = np.random.default_rng(seed)
    return Rows(
        scan=np.sort(rng.integers(0, 2, n)),
        pixel=np.arange(n),
        grain=np.floor(6 * rng.random(n) ** 2).astype(np.int64),
        phase=rng.integers(0, 2, n),
        confidence=rng.random(n).astype(np.float32),
        orientation=random_uniform(n, seed=rng),
    )


@settings(max_examples=40, deadline=None)
@given(group=st.lists(st.integers(0, 5), max_size=100).map(np.array), n=st.integers(1, 20), seed=st.integers(0, 99))
def test_no_group_keeps_more_than_its_cap_and_none_loses_without_need(group, n, seed):
    kept = at_most(group, n, seed=[seed])
    for one in np.unique(group):
        assert kept[group == one].sum() == min(n, (group == one).sum())


@settings(max_examples=40, deadline=None)
@given(there=counts, data=st.data())
def test_strata_share_a_sample_as_evenly_as_they_can(there, data):
    total = data.draw(st.integers(0, int(there.sum())))
    taken = shared_out(there, total)
    assert taken.sum() == total
    assert ((taken >= 0) & (taken <= there)).all()
    short = taken < there
    if short.any():
        assert taken.max() - taken[short].min() <= 1


@pytest.mark.parametrize("confidence", [None, np.linspace(0, 1, 50)])
def test_a_sample_is_as_large_as_asked_and_follows_from_its_seed(confidence):
    one, again, other = (draw(50, 20, confidence=confidence, seed=[seed]) for seed in (3, 3, 4))
    assert one.sum() == 20
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()


@pytest.mark.parametrize("symmetry", SYMMETRIES, ids=["m-3m", "-3m"])
def test_symmetric_equivalents_lie_in_one_cell(symmetry):
    orientation = random_uniform(200, seed=1)
    cells = zone_cells(orientation, symmetry, cell_deg=10)
    for operation in symmetry:
        np.testing.assert_array_equal(zone_cells(multiply(operation, orientation), symmetry, cell_deg=10), cells)


def test_cells_of_one_size_hold_equally_many_random_orientations():
    cells = zone_cells(random_uniform(60_000, seed=2), np.array([[1.0, 0, 0, 0]]), cell_deg=40)
    inside = np.linalg.norm((np.abs(cells) + 0.5) * np.radians(40) / 2, axis=1) < np.cbrt(0.75 * np.pi)
    _, number = np.unique(cells[inside], axis=0, return_counts=True)
    assert len(number) >= 50
    assert number.std() / number.mean() < 1.3 / np.sqrt(number.mean())


def test_rules_act_in_their_order_and_each_row_is_left_out_once():
    rows = rows_of(400)
    recipe = CurationRecipe(max_per_grain=20, balance=1.0, cell_deg=30, sample=100, sample_by="confidence")
    out = apply_rules(rows, recipe, symmetries=SYMMETRIES, seed=5)
    assert [words.split()[-1] for words in out] == ["grain", "cell", "sample"]
    assert np.sum(list(out.values()), axis=0).max() == 1
    capped, balanced, sampled = np.logical_not(np.cumsum(list(out.values()), axis=0))
    group = rows.scan * 10 + rows.grain
    assert np.unique(group[capped], return_counts=True)[1].max() <= 20
    before, after = (
        phase_cells(rows.orientation[m], rows.phase[m], symmetries=SYMMETRIES, cell_deg=30) for m in (capped, balanced)
    )
    assert np.unique(after, return_counts=True)[1].max() <= cell_cap(before, balance=1.0)
    assert sampled.sum() == 100


def test_without_rules_all_stay_and_too_large_a_sample_is_refused():
    rows = rows_of(30)
    assert apply_rules(rows, CurationRecipe(), symmetries=SYMMETRIES, seed=0) == {}
    with pytest.raises(InputError, match="--sample 31: must be from 1 to 30"):
        apply_rules(rows, CurationRecipe(sample=31), symmetries=SYMMETRIES, seed=0)


def test_the_most_confident_come_first_and_equal_ones_as_they_stand():
    assert by_confidence([0.5, 0.9, 0.5, 1.0]).tolist() == [3, 1, 0, 2]


def test_blocks_are_squares_and_regions_hold_whole_grains_side_by_side():
    assert np.unique(blocks((20, 30), side=8), return_counts=True)[1].max() == 64
    group = np.add.outer(np.zeros(10, int), np.arange(40) // 4)
    group[0, 0] = -1
    split = split_regions(group, group.shape, seed=1)
    assert split[0, 0] == 0
    for one in range(10):
        assert len(np.unique(split[group == one])) == 1
    assert (np.diff(split[5].astype(int)) != 0).sum() == 2
