import json

import numpy as np
import pytest

from dpcurate.errors import InputError
from dpcurate.simulator import draw, make_simulator
from dptrain.claims import CONFIRMED, REFUTED, UNDECIDED
from dptrain.conditions_report import report_conditions, thickness_verdict
from dptrain.reports import write_reports
from dptrain.study_conditions import (
    LEVELS,
    MATCHING,
    USUAL,
    ConditionsProtocol,
    conditions_protocol,
    plan_of,
    run_conditions,
)
from tests.crystals import LINIO2
from tests.small_scan import small_run
from tests.test_report import Page

PHASE = "datasets/phases/LiNiO2.cif"
PROTOCOL = ConditionsProtocol(preset="quick", number=16, seeds=2, levels={"thickness": (100.0, 600.0)})


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    from pathlib import Path

    run = small_run(tmp_path_factory.getbasetemp())
    out = tmp_path_factory.mktemp("conditions") / "study"
    return run_conditions(Path(PHASE), PROTOCOL, out=out, networks=[run], device="cpu")


@pytest.mark.parametrize("factor", LEVELS)
def test_one_factor_changes_and_orientations_stay(factor):
    drawn = []
    for level in (LEVELS[factor][0], LEVELS[factor][-1]):
        plan = plan_of(PROTOCOL, factor, level, seed=3)
        drawn.append(draw(make_simulator(plan, (LINIO2,)), np.arange(8)))
    np.testing.assert_array_equal(drawn[0].orientation, drawn[1].orientation)
    changed = {
        name
        for name, column in drawn[0].conditions.as_columns().items()
        if not np.array_equal(column, drawn[1].conditions.as_columns()[name])
    }
    names = {
        "thickness": {"thickness_angstrom"},
        "dose": {"dose_electrons"},
        "precession": set(),
        "scale error": {"scale_error"},
        "tilt spread": {"mosaic_deg"},
        "overlap": {"first_weight"},
    }
    assert changed == names[factor]
    assert USUAL[factor] is not None


def test_every_method_sees_every_pattern_and_template_matching_finds_most(study):
    files = sorted((study / "levels").glob("*.json"))
    assert len(files) == 4
    for path in files:
        methods = json.loads(path.read_text(encoding="utf-8"))["methods"]
        assert len(methods) == 2
        assert all(len(one["error_deg"]) == 16 and one["per_s"] > 0 for one in methods.values())
        assert np.mean(np.array(methods[MATCHING]["error_deg"]) <= 5) > 0.5


def test_called_again_it_does_only_what_is_missing_and_refuses_another_protocol(study, tmp_path_factory):
    from pathlib import Path

    run = small_run(tmp_path_factory.getbasetemp())
    files = sorted((study / "levels").glob("*.json"))
    before = {path: path.stat().st_mtime_ns for path in files}
    files[1].unlink()
    run_conditions(Path(PHASE), PROTOCOL, out=study, networks=[run], device="cpu")
    assert [path for path in files if path.stat().st_mtime_ns != before[path]] == [files[1]]
    with pytest.raises(InputError, match="other protocol"):
        run_conditions(Path(PHASE), PROTOCOL.model_copy(update={"number": 32}), out=study, networks=[run], device="cpu")
    with pytest.raises(InputError, match="other tests"):
        run_conditions(Path(PHASE), PROTOCOL, out=study, device="cpu")


def test_its_page_tells_both_claims_and_what_is_missing(study, tmp_path):
    page = write_reports([study])[0]
    text = Page(page).text
    assert "(h) networks are much faster" in text
    assert "(k) thickness matters" in text
    assert (page.with_suffix("") / "levels.csv").is_file()
    (tmp_path / "study.json").write_text((study / "study.json").read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(InputError, match="none of 4 levels is done"):
        report_conditions(tmp_path)


def made(thin, thick, seed):
    rng = np.random.default_rng(seed)
    return {
        "thickness": {
            50.0: {k: np.where(rng.random(400) < thin, 1.0, 50.0) for k in range(3)},
            900.0: {k: np.where(rng.random(400) < thick, 1.0, 50.0) for k in range(3)},
        }
    }


@pytest.mark.parametrize(
    ("methods", "verdict"),
    [
        ({MATCHING: (0.9, 0.5), "net": (0.8, 0.4)}, CONFIRMED),
        ({MATCHING: (1.0, 1.0), "net": (1.0, 1.0)}, REFUTED),
        ({MATCHING: (0.9, 0.5), "net": (1.0, 1.0)}, UNDECIDED),
        ({MATCHING: (0.9, 0.5), "net": (0.0, 0.0)}, CONFIRMED),
        ({"net": (0.0, 0.0)}, UNDECIDED),
    ],
)
def test_thickness_matters_where_every_method_that_knows_anything_says_so(methods, verdict):
    errors = {name: made(*shares, seed) for seed, (name, shares) in enumerate(methods.items())}
    assert thickness_verdict(errors, 0.002).verdict == verdict


def test_two_presets_at_once_are_refused():
    with pytest.raises(InputError, match="two presets"):
        conditions_protocol(quick=True, cpu=True)
