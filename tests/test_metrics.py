import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpcurate import orientations
from dptrain import metrics
from tests.conftest import CUBIC, TRIGONAL

errors = st.lists(st.floats(0, 180), min_size=1, max_size=60)


@settings(deadline=None)
@given(errors, st.integers(0, 60))
def test_accuracy_does_not_depend_on_how_errors_are_shared_out(values, cut):
    values = np.array(values)
    parts = metrics.tally(values[:cut]) + metrics.tally(values[cut:])
    whole = metrics.accuracy(parts)
    assert whole.n == len(values)
    assert whole.mean_deg == pytest.approx(values.mean())
    assert whole.within == tuple(np.mean(values <= limit) for limit in metrics.WITHIN_DEG)
    lower, upper = np.sort(values)[[(len(values) - 1) // 2, len(values) // 2]]
    assert lower - metrics.BIN_DEG <= whole.median_deg <= upper + metrics.BIN_DEG


def test_equivalents_are_no_error_and_a_wrong_phase_is_the_largest():
    phases = (CUBIC, TRIGONAL)
    truth, phase = orientations.random_uniform(8, seed=0), np.arange(8) % 2
    groups = [record.proper_rotations() for record in phases]
    same = np.array([orientations.multiply(groups[k][-1], g) for g, k in zip(truth, phase, strict=True)])
    error = metrics.errors_deg(same, truth, predicted_phase=phase, phase=phase, phases=phases)
    assert error == pytest.approx(0, abs=1e-6)
    error = metrics.errors_deg(same, truth, predicted_phase=1 - phase, phase=phase, phases=phases)
    assert (error == metrics.LARGEST_DEG).all()


def test_where_the_truth_is_unknown_nothing_is_counted():
    truth = np.full((3, 4), np.nan)
    zero = np.zeros(3, int)
    error = metrics.errors_deg(truth, truth, predicted_phase=zero, phase=zero, phases=(CUBIC,))
    result = metrics.accuracy(metrics.tally(error))
    assert result.n == 0
    assert np.isnan(result.median_deg)
