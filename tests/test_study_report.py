import csv
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpcurate.errors import InputError
from dptrain.claims import CLAIMS, CONFIRMED, REFUTED, UNDECIDED, decide, verdicts
from dptrain.config import read_config
from dptrain.curves import Point, Series, curve
from dptrain.reports import write_reports
from dptrain.study import run_study
from dptrain.study_data import HELD_OUT, HELD_PIXELS
from dptrain.study_folder import FAILURE, RESULT
from dptrain.study_numbers import Findings, Run, against, interval, read_findings, setting_of
from dptrain.study_plan import Trial
from dptrain.study_scores import Interval, mean_interval, numbers, paired_interval
from tests.small_scan import small_index
from tests.test_report import Page
from tests.test_study import PROTOCOL


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    index = small_index(tmp_path_factory.getbasetemp())
    out = tmp_path_factory.mktemp("reported") / "study"
    return run_study([index], PROTOCOL.model_copy(update={"seeds": 2}), out=out, tests=[index], device="cpu")


@pytest.fixture(scope="module")
def page(study):
    return write_reports([study])[0]


def made_run(kind, seed, share, *, n=400, grains=20, **trial):
    """A run that is within 5 degrees for a share of the pixels of every group."""
    grain = np.repeat(np.arange(grains), n // grains)
    error = np.where(np.random.default_rng(seed).random(n) < share, 1.0, 50.0)
    scores = {group: numbers(error) | {"pixels": group} for group in (HELD_OUT, HELD_PIXELS)}
    run = Run(Trial(kind=kind, seed=seed, **trial), {}, scores, None)
    arrays = {f"{group}/{name}": value for group in scores for name, value in (("error", error), ("grain", grain))}
    run.__dict__["pixels"] = arrays
    return run


def runs(share, seeds=(0, 1, 2), **trial):
    return [made_run("threshold", seed, share, **trial) for seed in seeds]


@given(seed=st.integers(0, 50), shift=st.floats(0.5, 5))
def test_an_interval_is_paired_and_turns_round_with_its_pair(seed, shift):
    rng = np.random.default_rng(seed)
    grain = {key: rng.integers(0, 9, 60) for key in (0, 1, 2)}
    first = {key: rng.gamma(2, 10, 60) for key in grain}
    second = {key: value + shift for key, value in first.items()}
    same = paired_interval(first, first, grain)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    gain = paired_interval(second, first, grain)
    assert gain.low == pytest.approx(shift)
    assert gain.high == pytest.approx(shift)
    assert paired_interval(first, second, grain).sign == -1


def test_pixels_of_one_grain_count_as_one_case_not_as_many():
    rng = np.random.default_rng(0)
    grain = {seed: np.repeat(np.arange(5), 200) for seed in range(3)}
    values = {seed: np.repeat(rng.normal(size=5), 200) for seed in range(3)}
    wide = mean_interval(values, grain)
    narrow = mean_interval(values, {seed: np.arange(1000) for seed in range(3)})
    assert wide.high - wide.low > 1.2 * (narrow.high - narrow.low)


def test_an_interval_holds_the_truth_about_as_often_as_it_says():
    hits = 0
    for trial in range(100):
        rng = np.random.default_rng(trial)
        values = {seed: np.repeat(rng.normal(size=30), 4) for seed in range(5)}
        found = mean_interval(values, {seed: np.repeat(np.arange(30), 4) for seed in range(5)})
        hits += found.low <= 0 <= found.high
    assert 85 <= hits <= 100


def test_one_seed_gives_no_interval():
    found = interval(runs(0.5, seeds=(0,)), HELD_OUT, "within_5_deg")
    assert (found.low, found.high, found.sign) == (None, None, 0)
    assert Interval(1.0, None, None).sign == 0


def test_runs_are_compared_seed_by_seed_only_where_both_have_it():
    assert against(runs(0.5, seeds=(0, 1)), runs(0.5, seeds=(2, 3)), HELD_OUT) is None
    assert against(runs(0.5, seeds=(0, 1)), runs(0.5, seeds=(1, 2)), HELD_OUT).low is None


@pytest.mark.parametrize(
    ("first", "second", "verdict"),
    [(0.9, 0.3, CONFIRMED), (0.3, 0.9, REFUTED), (0.6, 0.6, REFUTED), (0.0, 0.0, UNDECIDED)],
)
def test_a_verdict_is_what_the_intervals_say(first, second, verdict):
    one = decide("d", {"one": (runs(first), runs(second))}, guess_within_5=0.002, figure="")
    assert one.verdict == verdict


def test_a_verdict_is_never_stronger_than_the_data():
    good, bad = runs(0.9), runs(0.3)
    mixed = decide("d", {"one": (good, bad), "two": (bad, good)}, guess_within_5=0.002, figure="")
    assert mixed.verdict == UNDECIDED
    single = decide("d", {"one": (good[:1], bad[:1])}, guess_within_5=0.002, figure="")
    assert single.verdict == UNDECIDED
    assert "fewer than 2 seeds" in single.why
    assert decide("d", {}, guess_within_5=0.002, figure="").verdict == UNDECIDED
    blind = [replace(run, scores=run.scores) for run in good]
    for run in blind:
        run.__dict__["pixels"] = good[0].pixels | {f"{HELD_OUT}/error": np.full(400, 50.0)}
    split = decide("d", {"one": (blind, bad)}, guess_within_5=0.002, figure="")
    assert split.verdict == UNDECIDED


def test_every_claim_has_a_verdict_a_reason_and_a_command(study):
    said = verdicts(read_findings(study), 0.002)
    assert [one.letter for one in said] == list(CLAIMS)
    for one in said:
        assert one.verdict in (CONFIRMED, REFUTED, UNDECIDED)
        assert one.why
        assert one.command.startswith("dptrain study ")
        assert one.why.startswith("because") or one.verdict != UNDECIDED or "On " in one.why


def test_the_claim_on_filtering_takes_every_threshold():
    everything = [
        *runs(0.3, min_confidence=0.0),
        *runs(0.9, min_confidence=0.5),
        *runs(0.9, min_confidence=0.8),
    ]
    found = {one.letter: one for one in verdicts(Findings({"study": "label-quality"}, tuple(everything), {}), 0.002)}
    assert found["d"].verdict == CONFIRMED
    assert "above 0.5" in found["d"].why
    assert "above 0.8" in found["d"].why
    assert found["j"].verdict == UNDECIDED


@pytest.mark.parametrize(
    ("clamped", "free", "verdict"), [(0.9, 0.3, REFUTED), (0.3, 0.9, CONFIRMED), (0.6, 0.6, CONFIRMED)]
)
def test_a_claim_that_something_does_not_help_is_confirmed_where_it_does_not(clamped, free, verdict):
    made = [
        made_run("setting", seed, share, setting=name)
        for name, share in (("euler clamped", clamped), ("euler free", free))
        for seed in (0, 1, 2)
    ]
    found = {one.letter: one for one in verdicts(Findings({"study": "choices"}, tuple(made), {}), 0.002)}
    assert found["f"].verdict == verdict
    assert "euler clamped against euler free" in found["f"].why
    assert found["g"].verdict == UNDECIDED
    assert "missing" in found["g"].why


def test_choices_of_training_are_run_and_reported(tmp_path):
    index = small_index(tmp_path.parent)
    wanted = ("usual", "euler clamped", "euler free")
    protocol = PROTOCOL.model_copy(update={"study": "choices", "choices": wanted, "seeds": 2})
    page = Page(write_reports([run_study([index], protocol, out=tmp_path / "choices", device="cpu")])[0])
    for name in wanted:
        assert f"setting-{name.replace(' ', '-')}" in page.text
    assert "euler clamped against euler free" in page.text or "no network can be told from a random guess" in page.text
    free = list((tmp_path / "choices" / "runs").glob("setting-euler-free-*/config.toml"))
    assert [read_config(path).head.clamp for path in free] == [False, False]


def test_the_page_loads_nothing_and_shows_every_setting(study, page):
    content = Page(page)
    assert page == study / "report.html"
    assert page.stat().st_size < 5e6
    assert all(link.startswith("data:image/png;base64,") for link in content.links)
    assert "http://" not in content.text.replace("http://www.w3.org/2000/svg", "")
    assert "dptrain study label-quality" in content.text
    for run in read_findings(study).runs:
        assert setting_of(run.trial) in content.text


def test_curves_hold_the_numbers_of_the_runs(study, page):
    text = page.read_text(encoding="utf-8")
    specs = [
        json.loads(part.split("</script>")[0].replace("<\\/", "</"))
        for part in text.split('<script type="application/json">')[1:]
    ]
    assert len(specs) == 3
    run = next(run for run in read_findings(study).runs if run.trial.kind == "simulated")
    points = [
        point for one in specs[2]["series"] if one["name"] == "simulated patterns alone" for point in one["points"]
    ]
    assert run.scores[HELD_OUT]["median_deg"] in points[0]["values"][HELD_OUT]["median_deg"][3]


def test_tables_and_figures_lie_beside_the_page(study, page):
    beside = page.with_suffix("")
    with (beside / "settings.csv").open(newline="", encoding="utf-8") as stream:
        settings = list(csv.DictReader(stream))
    found = {(one["setting"], one["pixels"]): one for one in settings}
    runs_of = [run for run in read_findings(study).runs if run.trial.kind == "scan only"]
    told = float(found["scan-only", HELD_OUT]["mean_deg"])
    assert told == pytest.approx(np.mean([run.scores[HELD_OUT]["mean_deg"] for run in runs_of]))
    with (beside / "claims.csv").open(newline="", encoding="utf-8") as stream:
        assert [one["claim"] for one in csv.DictReader(stream)] == list(CLAIMS)
    assert (beside / "results.csv").is_file()
    assert len(list(beside.glob("accuracy_against_*.png"))) == 3 * len(read_findings(study).pixel_groups)
    assert list(beside.glob("map_*.png"))


def test_a_report_over_unfinished_runs_says_which(study, tmp_path):
    part = tmp_path / "part"
    shutil.copytree(study, part)
    gone, failed = sorted(path.parent for path in (part / "runs").glob(f"*/{RESULT}"))[:2]
    (gone / RESULT).unlink()
    (failed / RESULT).unlink()
    (failed / FAILURE).write_text(json.dumps({"error": "RuntimeError: out of memory"}), encoding="utf-8")
    text = Page(write_reports([part])[0]).text
    assert "2 runs are missing" in text
    assert f"{gone.name}: missing" in text
    assert f"{failed.name}: RuntimeError: out of memory" in text


def test_a_study_without_a_run_and_a_damaged_result_are_refused(study, tmp_path):
    part = tmp_path / "part"
    shutil.copytree(study, part)
    one = next((part / "runs").glob(f"*/{RESULT}"))
    one.write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match="damaged"):
        write_reports([part])
    shutil.rmtree(part / "runs")
    with pytest.raises(InputError, match="none of 16 runs is done"):
        write_reports([part])


def test_a_curve_survives_numbers_that_are_none_and_names_that_close_a_tag():
    points = [Point(1.0, "</script>", {"g": {"mean_deg": (float("nan"), None, None, [])}})]
    text = curve([Series("</b>", points)], x="x", groups=["g"], metrics=[("mean_deg", "mean")], joined=True)
    assert text.count("</script>") == 1
    assert "NaN" not in text
