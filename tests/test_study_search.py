import json

import optuna
import pytest

from dptrain import study_search
from dptrain.reports import write_reports
from dptrain.study_plan import Protocol
from tests.small_scan import small_index
from tests.test_report import Page

PROTOCOL = Protocol(
    study="hyperparameters",
    preset="quick",
    seeds=1,
    thresholds=(0.0, 0.8),
    simulated=20,
    steps=4,
    batch_size=16,
    trials=3,
    options={"input": {"size": 64}, "head": {"max_cells": 60}},
)


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    return small_index(tmp_path_factory.getbasetemp())


@pytest.mark.filterwarnings("ignore")
def test_a_search_goes_on_where_it_stopped_and_is_reported(index, tmp_path):
    out = tmp_path / "search"
    study_search.run_search([index], PROTOCOL.model_copy(update={"trials": 3}), out=out, device="cpu")
    found = json.loads((out / "search.json").read_text(encoding="utf-8"))
    assert len(found["trials"]) == 3
    assert {one["state"] for one in found["trials"]} <= {"COMPLETE", "PRUNED"}
    asked = sorted(path.stem for path in (out / "asked").glob("*.json"))
    study_search.run_search([index], PROTOCOL.model_copy(update={"trials": 3}), out=out, device="cpu")
    assert sorted(path.stem for path in (out / "asked").glob("*.json")) == asked
    best = min(one["value"] for one in found["trials"] if one["state"] == "COMPLETE")
    kept = optuna.load_study(
        study_name=study_search.NAME,
        storage=optuna.storages.JournalStorage(
            optuna.storages.journal.JournalFileBackend(str(out / study_search.JOURNAL))
        ),
    )
    assert kept.best_value == best
    text = Page(write_reports([out])[0]).text
    assert "setting-best" in text
    assert "Importance" in text
