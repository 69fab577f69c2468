"""Features, calibrators, adjustments: what they may depend on, and that they keep their word."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpcurate.calibration_scores import kept_at, over_grains, reliability_diagram, risk_area, risk_coverage
from dpcurate.calibrator import Adjustment, confidence_of, read_calibrator
from dpcurate.calibrator_fit import Judged, adjust, fit
from dpcurate.errors import InputError
from dpcurate.label_features import FALLING, FEATURES, RISING, label_features
from dpcurate.orientations import equivalents, turn_pattern
from tests.index_results import index_result

RESULT = index_result((16, 20))


def drawn(n_grains, *, seed, blunt=1.0):
    """Labels whose log-odds of being right are ``blunt`` times a feature of their grain and a little of their own."""
    rng = np.random.default_rng(seed)
    grain = np.repeat(np.arange(n_grains), 30)
    features = rng.normal(size=(len(grain), len(FEATURES))).astype(np.float32)
    said = 2 * rng.normal(size=n_grains)[grain] + 0.5 * features[:, 0]
    features[:, FEATURES.index("support")] = said
    right = rng.random(len(grain)) < 1 / (1 + np.exp(-blunt * said))
    return Judged(features, np.where(right, 0.5, 40.0), grain)


@pytest.fixture(scope="module")
def calibrator():
    return fit([drawn(40, seed=seed) for seed in range(8)])


@pytest.mark.parametrize("turn_deg", [17.0, -90.0])
def test_features_do_not_depend_on_the_frame(turn_deg):
    turned = replace(
        RESULT,
        orientation=turn_pattern(RESULT.orientation, turn_deg),
        candidate_orientation=turn_pattern(RESULT.candidate_orientation, turn_deg),
    )
    np.testing.assert_allclose(label_features(turned), label_features(RESULT), atol=2e-3)


def test_features_do_not_depend_on_which_equivalent_is_written_nor_on_the_order_of_phases():
    other = RESULT.orientation.copy()
    for number, phase in enumerate(RESULT.phases):
        own = RESULT.phase_id == number
        other[own] = equivalents(RESULT.orientation[own], phase.proper_rotations())[:, -1]
    same = replace(
        RESULT,
        orientation=other,
        phases=RESULT.phases[::-1],
        phase_id=np.where(RESULT.phase_id < 0, -1, 1 - RESULT.phase_id).astype(np.int16),
        candidate_phase_id=(1 - RESULT.candidate_phase_id).astype(np.int16),
    )
    indexed = (RESULT.phase_id >= 0).ravel()
    np.testing.assert_allclose(label_features(same)[indexed], label_features(RESULT)[indexed], atol=2e-3)


def test_a_candidate_that_equals_the_label_leads_and_another_label_lags():
    column = FEATURES.index("margin_10")
    indexed = RESULT.phase_id.ravel() >= 0
    assert (label_features(RESULT)[indexed, column] >= 0).all()
    second = replace(
        RESULT, orientation=RESULT.candidate_orientation[:, :, 1], correlation=RESULT.candidate_score[..., 1]
    )
    assert (label_features(second)[indexed, column] <= 0).mean() > 0.9


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), which=st.integers(0, len(RISING) + len(FALLING) - 1), more=st.floats(0, 3))
def test_the_shipped_confidence_keeps_to_the_direction_of_each_feature(seed, which, more):
    features = np.random.default_rng(seed).uniform(-0.3, 1, (20, len(FEATURES))).astype(np.float32)
    raised = features.copy()
    raised[:, which] += np.float32(more)
    change = read_calibrator().probability(raised) - read_calibrator().probability(features)
    assert ((change if FEATURES[which] in RISING else -change) >= -1e-9).all()


def test_the_shipped_calibrator_gives_what_its_docstrings_say():
    trust, error = confidence_of(RESULT)
    indexed = RESULT.phase_id >= 0
    assert trust.shape == error.shape == RESULT.shape
    assert (trust[~indexed] == 0).all()
    assert (error[~indexed] == 180).all()
    assert ((trust[indexed] > 0) & (trust[indexed] < 1)).all()
    order = np.argsort(trust[indexed])
    assert (np.diff(error[indexed][order]) <= 1e-5).all()


def test_confidence_keeps_its_word_on_scans_of_the_same_kind(calibrator):
    scan = drawn(400, seed=99)
    trust = calibrator.probability(scan.features)
    assert reliability_diagram(trust, scan.right).error < 0.05
    assert kept_at(trust, scan.right, 0.8)[0] > 0.85
    assert risk_area(trust, scan.right) < 0.7 * risk_area(np.random.default_rng(0).random(len(trust)), scan.right)


def test_an_adjustment_mends_a_blunter_scan_and_few_grains_change_little(calibrator):
    blunter = [drawn(60, seed=seed, blunt=0.4) for seed in (50, 51, 52, 53)]
    line = adjust(calibrator, blunter)
    assert line.slope < 0.75
    scan = drawn(400, seed=98, blunt=0.4)
    probability = calibrator.probability(scan.features)
    before, after = (reliability_diagram(trust, scan.right).error for trust in (probability, line(probability)))
    assert after < 0.6 * before
    few = adjust(calibrator, [drawn(2, seed=5, blunt=0.4)])
    assert abs(np.log(few.slope)) < abs(np.log(line.slope))


@settings(max_examples=30, deadline=None)
@given(slope=st.floats(0.1, 5), offset=st.floats(-3, 3))
def test_an_adjustment_keeps_the_order(slope, offset):
    probability = np.linspace(0.01, 0.99, 50)
    assert (np.diff(Adjustment(slope, offset)(probability)) >= 0).all()


def test_a_calibrator_comes_back_from_its_file(calibrator, tmp_path):
    path = tmp_path / "own.json"
    path.write_text(calibrator.to_json(), encoding="utf-8")
    features = drawn(20, seed=7).features
    np.testing.assert_allclose(read_calibrator(path).probability(features), calibrator.probability(features), atol=1e-4)


@pytest.mark.parametrize(
    ("key", "value"),
    [("format", 2), ("features", ["one"]), ("score", [1, 0]), ("right", [0.5]), ("trees", {}), ("origin", 3)],
)
def test_a_damaged_calibrator_is_one_sentence(calibrator, tmp_path, key, value):
    path = tmp_path / f"{key}.json"
    path.write_text(json.dumps(json.loads(calibrator.to_json()) | {key: value}), encoding="utf-8")
    with pytest.raises(InputError, match=rf"{key}.json: no calibrator for this version"):
        read_calibrator(path)


def test_scores_of_confidence_are_those_worked_out_by_hand():
    trust, right = np.array([0.95, 0.95, 0.15, 0.15]), np.array([True, False, False, False])
    assert reliability_diagram(trust, right).error == pytest.approx((0.45 + 0.15) / 2)
    assert kept_at(trust, right, 0.8) == (0.5, 0.5)
    coverage, risk = risk_coverage(np.array([4.0, 3, 2, 1]), right)
    assert coverage.tolist() == [0.25, 0.5, 0.75, 1]
    np.testing.assert_allclose(risk, [0, 1 / 2, 2 / 3, 3 / 4])


def test_intervals_come_from_grains_so_that_copies_of_a_pixel_do_not_narrow_them():
    rng = np.random.default_rng(1)
    trust = np.full(20, 0.9)
    right, grain = rng.random(20) < 0.7, np.arange(20)
    wide = over_grains(grain, trust, right, threshold=0.8)["precision"]
    copied = over_grains(np.repeat(grain, 50), np.repeat(trust, 50), np.repeat(right, 50), threshold=0.8)["precision"]
    assert copied == pytest.approx(wide)
    assert wide[1] - wide[0] > 0.2
