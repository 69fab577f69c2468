import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpcurate import orientations
from dpcurate.errors import InputError
from dpcurate.store import open_dataset, write_dataset
from dptrain import data
from tests.conftest import CUBIC, describe, spot_patterns, tiny_labels

sizes = st.integers(1, 200)
worlds = st.sampled_from([1, 2, 3, 4, 6])


def shown(order, *, batch_size, world_size, first=0, last=None):
    """What all processes see in steps first to last, one array per step."""
    steps = data.steps_per_epoch(len(order), batch_size=batch_size) if last is None else last
    return [
        np.concatenate(
            [
                data.training_batch(order, step, batch_size=batch_size, rank=rank, world_size=world_size)
                for rank in range(world_size)
            ]
        )
        for step in range(first, steps)
    ]


@settings(deadline=None)
@given(n=sizes, seed=st.integers(0, 9), epoch=st.integers(0, 9))
def test_an_epoch_shows_every_sample_once_in_an_order_of_its_own(n, seed, epoch):
    order = data.epoch_order(n, seed=seed, epoch=epoch)
    assert np.array_equal(np.sort(order), np.arange(n))
    assert np.array_equal(order, data.epoch_order(n, seed=seed, epoch=epoch))
    if n > 20:
        assert not np.array_equal(order, data.epoch_order(n, seed=seed, epoch=epoch + 1))


@settings(deadline=None)
@given(n=sizes, world=worlds, other=worlds, shares=st.integers(1, 4), data_=st.data())
def test_all_processes_together_see_each_sample_once_also_after_resuming_on_another_number(
    n, world, other, shares, data_
):
    batch_size = 12 * shares
    order = data.epoch_order(n, seed=1, epoch=0)
    steps = data.steps_per_epoch(n, batch_size=batch_size)
    stop = data_.draw(st.integers(0, steps))
    before = shown(order, batch_size=batch_size, world_size=world, last=stop)
    after = shown(order, batch_size=batch_size, world_size=other, first=stop)
    seen = np.concatenate([*before, *after, np.empty(0, int)])
    assert len(seen) == len(np.unique(seen)) == steps * batch_size
    assert n - len(seen) < batch_size
    for step, batch in enumerate([*before, *after]):
        assert set(batch) == set(order[step * batch_size : (step + 1) * batch_size])


@settings(deadline=None)
@given(n=sizes, world=worlds, shares=st.integers(1, 4))
def test_evaluation_counts_every_sample_once_in_batches_of_one_size(n, world, shares):
    batch_size = 12 * shares
    ranks = [
        list(data.evaluation_batches(n, batch_size=batch_size, rank=rank, world_size=world)) for rank in range(world)
    ]
    assert len({len(batches) for batches in ranks}) == 1
    counted = [place[counts] for batches in ranks for place, counts in batches]
    assert np.array_equal(np.sort(np.concatenate(counted)), np.arange(n))
    assert all(len(place) == batch_size // world and place.max() < n for batches in ranks for place, _ in batches)


def test_one_ahead_keeps_the_order_reads_in_a_thread_and_passes_errors_on():
    threads = set()

    def read(item):
        threads.add(threading.current_thread())
        if item == 7:
            raise InputError("damaged")
        return item * 10

    assert list(data.one_ahead(read, range(5))) == [0, 10, 20, 30, 40]
    assert threading.main_thread() not in threads
    assert list(data.one_ahead(read, [])) == []
    with pytest.raises(InputError, match="damaged"):
        list(data.one_ahead(read, range(6, 9)))


def unknown_truth_dataset(root):
    g = orientations.random_uniform(20, seed=0)
    labels = tiny_labels(g, np.zeros(20, int), grain=np.arange(20) // 2, shape=(16, 16), seed=0)
    labels["true_orientation"] = np.where(np.arange(20)[:, None] < 2, np.nan, labels["true_orientation"])
    labels["split"] = np.arange(20) // 10
    return write_dataset(
        root,
        name="partly",
        patterns=[spot_patterns(CUBIC, g, shape=(16, 16), rng=np.random.default_rng(0))],
        dtype=np.dtype(np.uint16),
        pattern_shape=(16, 16),
        labels=labels,
        description=describe((CUBIC,), 20),
        documents=lambda made: {"card.md": made.manifest.name},
    )


def test_training_on_truth_is_refused_where_it_is_not_known(tmp_path):
    dataset = open_dataset(unknown_truth_dataset(tmp_path))
    with pytest.raises(InputError, match=r"exact orientation of 2 of 10 train patterns is not known"):
        data.read_samples(dataset, "train", label_source="truth")
    known = data.read_samples(dataset, "validation", label_source="truth")
    assert np.array_equal(known.orientation, known.true_orientation)
    assert np.isnan(data.read_samples(dataset, "train").true_orientation[:2]).all()


def test_the_splits_are_read_apart_and_together_are_the_dataset(tiny_dataset, tmp_path):
    dataset = open_dataset(tiny_dataset(tmp_path))
    samples = [data.read_samples(dataset, split) for split in ("train", "validation", "test")]
    assert np.array_equal(np.sort(np.concatenate([part.index for part in samples])), np.arange(dataset.n))
    assert data.reach_inv_angstrom(samples[0], (32, 32)) == pytest.approx(15.5 * 0.08)
