"""Trees as arrays give what scikit-learn's give, and a damaged file is refused."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import HistGradientBoostingClassifier

from dpcurate.boosted_trees import from_plain, from_sklearn

N_FEATURES = 4


@pytest.fixture(scope="module")
def model():
    rng = np.random.default_rng(3)
    features = rng.normal(size=(3000, N_FEATURES)).astype(np.float32)
    features[rng.random(features.shape) < 0.1] = np.nan
    odds = np.nan_to_num(features[:, 0]) * np.nan_to_num(features[:, 1]) + np.isnan(features[:, 2])
    return HistGradientBoostingClassifier(max_iter=30, max_leaf_nodes=6).fit(features, odds + rng.normal(size=3000) > 0)


values = st.one_of(st.floats(-4, 4, width=32), st.just(float("nan")))


@settings(max_examples=100, deadline=None)
@given(rows=st.lists(st.lists(values, min_size=N_FEATURES, max_size=N_FEATURES), min_size=1, max_size=5))
def test_the_score_is_that_of_scikit_learn_also_where_a_number_is_missing(model, rows):
    features = np.array(rows, np.float32)
    np.testing.assert_allclose(from_sklearn(model).score(features), model.decision_function(features), atol=1e-9)


def test_trees_come_back_from_json(model):
    trees = from_sklearn(model)
    features = np.random.default_rng(0).normal(size=(500, N_FEATURES)).astype(np.float32)
    back = from_plain(json.loads(json.dumps(trees.to_plain())), n_features=N_FEATURES)
    np.testing.assert_allclose(back.score(features), trees.score(features), atol=1e-4)


def changed(plain, name, value):
    return plain | {name: value}


DAMAGES = {
    "a circle": lambda plain: changed(plain, "left", [0] * len(plain["left"])),
    "a node beyond the end": lambda plain: changed(plain, "right", [10**6] * len(plain["right"])),
    "a feature that there is not": lambda plain: changed(plain, "feature", [N_FEATURES, *plain["feature"][1:]]),
    "a tree without a root": lambda plain: changed(plain, "roots", [-1]),
    "arrays of different lengths": lambda plain: changed(plain, "value", plain["value"][:-1]),
    "a value that is no number": lambda plain: changed(plain, "value", [float("nan"), *plain["value"][1:]]),
    "half of it": lambda plain: dict(list(plain.items())[:4]),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_trees_are_refused(model, damage):
    plain = DAMAGES[damage](from_sklearn(model).to_plain())
    with pytest.raises((ValueError, KeyError, TypeError)):
        from_plain(plain, n_features=N_FEATURES)
