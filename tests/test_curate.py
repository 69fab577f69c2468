import sys
from pathlib import Path

import hyperspy.api as hs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpcurate import orientations, patterns, store
from dpcurate.crystal_maps import IndexResult, read_index, write_index
from dpcurate.curate import build_dataset
from dpcurate.errors import InputError
from dpcurate.labels import merge_phases, pixel_splits
from dpcurate.scans import open_scan, sha256_of
from dpcurate.schema import CONDITIONS
from dpcurate.simulation_plan import SimulationPlan, SimulationRecipe
from dpcurate.simulator import draw, make_simulator, simulate, training_parents

MAP = (10, 12)
SHAPE = (32, 32)
CENTER_XY = (15.5, 15.5)


@pytest.fixture(scope="module")
def made(tiny_dataset):
    """The module of the tiny dataset: two phases and their spot patterns."""
    return sys.modules[tiny_dataset.__module__]


def make_scan(path, made, *, seed):
    """A scan of twelve grains of two phases in blocks of 3 x 4 pixels, with its exact truth beside it."""
    grain = np.add.outer(np.arange(MAP[0]) // 4 * 4, np.arange(MAP[1]) // 3)
    rng = np.random.default_rng(seed)
    quat = orientations.random_uniform(grain.max() + 1, seed=rng)[grain]
    phase_id = (grain % 2).astype(np.int16)
    counts = np.empty((*MAP, *SHAPE), np.uint16)
    for number, record in enumerate((made.CUBIC, made.TRIGONAL)):
        here = phase_id == number
        counts[here] = made.spot_patterns(record, quat[here], shape=SHAPE, rng=rng)
    signal = hs.signals.Signal2D(counts)
    for axis in signal.axes_manager.signal_axes:
        axis.units, axis.scale, axis.offset = "1/Å", made.SCALE, -CENTER_XY[0] * made.SCALE
    signal.metadata.set_item("Acquisition_instrument.TEM.beam_energy", 200.0)
    signal.save(path, chunks=(4, 4, *SHAPE))
    truth = {"quat": quat, "quat2": quat, "weight": np.ones(MAP), "grain": grain, "thickness_angstrom": np.ones(MAP)}
    np.savez(path.with_name(path.stem + ".truth.npz"), **truth)
    return quat, phase_id, grain, counts


def make_index(path, made, *, seed=0, phases=None, rotation_deg=0.0, beam_energy_kev=200.0):
    """The index of such a scan: exact orientations, confidences at random, the first three pixels not indexed."""
    quat, phase_id, grain, _ = make_scan(path, made, seed=seed)
    phase_id.ravel()[:3] = -1
    confidence, *scores = np.random.default_rng(seed).uniform(0, 1, (4, *MAP)).astype(np.float32)
    quat = orientations.turn_pattern(quat, rotation_deg)
    calibration = {"scale_inv_angstrom": made.SCALE, "center_xy": CENTER_XY, "beam_energy_kev": beam_energy_kev}
    calibration |= {"precession_deg": 1.0, "step_nm": 10.0, "rotation_deg": rotation_deg, "flip": False}
    phases = phases or (made.CUBIC, made.TRIGONAL)
    result = IndexResult(
        orientation=quat,
        phase_id=phase_id,
        confidence=confidence,
        correlation=scores[0],
        reliability=scores[1],
        agreement=scores[2],
        grain_id=np.where(phase_id < 0, -1, grain).astype(np.int32),
        candidate_orientation=quat[:, :, None],
        candidate_score=scores[0][..., None],
        candidate_phase_id=phase_id[..., None],
        phases=phases,
        info={
            "scan": {"path": str(path), "sha256": sha256_of(path)},
            "shape": MAP,
            "calibration": calibration,
            "phases": [phase.model_dump(mode="json") for phase in phases],
        },
    )
    return write_index(result, path.with_suffix(".index"), recipe_toml="")


@pytest.fixture(scope="module")
def index(tmp_path_factory, made):
    return make_index(tmp_path_factory.mktemp("scan") / "my scan.hspy", made)


@pytest.fixture(scope="module")
def second(tmp_path_factory, made):
    return make_index(tmp_path_factory.mktemp("second") / "other.hspy", made, seed=1)


def build(indexes, root, **options):
    return store.open_dataset(build_dataset(indexes, root=root, progress=False, **options))


def test_labels_and_patterns_are_those_of_the_confident_pixels_in_scan_order(index, tmp_path):
    result, dataset = read_index(index), build([index], tmp_path, min_confidence=0.6)
    rows, columns = np.nonzero((result.confidence >= np.float32(0.6)) & (result.phase_id >= 0))
    assert np.array_equal(dataset.read("pixel"), np.stack([rows, columns], axis=1))
    assert np.array_equal(dataset.patterns(np.arange(dataset.n)), scan_patterns(result)[rows, columns])
    for name in ("confidence", "correlation", "reliability", "agreement", "phase_id", "grain_id", "orientation"):
        assert np.array_equal(dataset.read(name), getattr(result, name)[rows, columns])
    assert np.abs((dataset.read("true_orientation") * dataset.read("orientation")).sum(axis=1)).min() > 1 - 1e-12
    assert dataset.read("center_xy")[0].tolist() == list(CENTER_XY)
    assert dataset.path.parent.name == "my-scan"


def scan_patterns(result):
    return open_scan(result.info["scan"]["path"]).patterns.compute()


def test_patterns_read_in_small_blocks_are_the_same(index, tmp_path, monkeypatch):
    version = build([index], tmp_path).path.name
    monkeypatch.setattr(patterns, "BLOCK_BYTES", 1)
    assert build([index], tmp_path).path.name == version


def test_the_same_input_gives_the_same_version_and_another_seed_another(index, tmp_path):
    versions = [build([index], tmp_path / str(i), seed=seed).path.name for i, seed in enumerate((0, 0, 1))]
    assert versions[0] == versions[1] != versions[2]


def test_the_split_of_a_pixel_does_not_depend_on_the_confidence_asked_for(index, second, tmp_path):
    split = {}
    for indexes in ([index], [index, second]):
        for threshold in (0.0, 0.5, 0.9):
            dataset = build(indexes, tmp_path, min_confidence=threshold)
            first = dataset.read("source") == 0
            for pixel, own in zip(dataset.read("pixel")[first], dataset.read("split")[first], strict=True):
                assert split.setdefault(tuple(pixel), own) == own


def test_no_grain_of_a_dataset_spans_two_splits(index, second, tmp_path):
    dataset = build([index, second], tmp_path, min_confidence=0.0)
    grain = dataset.read("source") * 1000 + dataset.read("grain_id")
    split = dataset.read("split")
    assert set(split) == {0, 1, 2}
    assert all(len(np.unique(split[grain == one])) == 1 for one in np.unique(grain))


@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_numbering_the_grains_otherwise_does_not_change_the_split(index, data):
    result = read_index(index)
    number = np.array(data.draw(st.permutations(range(12))))
    grain = np.where(result.grain_id < 0, -1, number[result.grain_id]).astype(np.int32)
    renumbered = IndexResult(**{**vars(result), "grain_id": grain})
    assert np.array_equal(pixel_splits(renumbered, seed=3), pixel_splits(result, seed=3))


def test_a_scan_turned_against_its_detector_is_labelled_in_the_frame_of_its_patterns(tmp_path, made):
    straight = make_index(tmp_path / "a.hspy", made)
    turned = make_index(tmp_path / "b.hspy", made, rotation_deg=30.0)
    labels = [build([one], tmp_path, min_confidence=0.0).read("orientation") for one in (straight, turned)]
    assert np.abs(labels[0] - labels[1]).max() < 1e-12


def test_two_scans_share_their_phases(index, second, tmp_path):
    dataset = build([index, second], tmp_path, min_confidence=0.0)
    assert [phase.name for phase in dataset.manifest.phases] == ["cubic", "trigonal"]
    assert np.bincount(dataset.read("source")).tolist() == [117, 117]
    assert [Path(source.index_path) for source in dataset.manifest.sources] == [index, second]


def test_phases_of_several_indexes_are_numbered_by_what_they_are(made):
    merged, numbers = merge_phases([(made.TRIGONAL,), (made.CUBIC, made.TRIGONAL)])
    assert merged == (made.TRIGONAL, made.CUBIC)
    assert [number.tolist() for number in numbers] == [[0], [1, 0]]
    with pytest.raises(InputError, match="Phase cubic has different structures"):
        merge_phases([(made.CUBIC,), (made.TRIGONAL.model_copy(update={"name": "cubic"}),)])


def test_simulated_patterns_come_after_the_scans_with_exact_labels(index, tmp_path):
    dataset = build([index], tmp_path, simulated=9, min_confidence=0.9)
    simulated = dataset.read("source") == 1
    assert (np.flatnonzero(simulated) == np.arange(dataset.n - 9, dataset.n)).all()
    assert dataset.read("phase_id")[simulated].tolist() == [0, 1, 0, 1, 0, 1, 0, 1, 0]
    assert dataset.read("draw").tolist() == [-1] * (dataset.n - 9) + list(range(9))
    dose, thickness = (dataset.read("conditions")[:, CONDITIONS.index(name)] for name in CONDITIONS[1:3])
    assert ((dose[simulated] >= 5_000) & (dose[simulated] <= 20_000)).all()
    assert np.isnan(dose[~simulated]).all()
    assert (thickness[~simulated] == 1).all()  # as the truth beside the scan says
    assert np.array_equal(dataset.read("true_orientation")[simulated], dataset.read("orientation")[simulated])
    assert (dataset.read("confidence")[simulated] == 1).all()
    assert np.isnan(dataset.read("reliability")[simulated]).all()
    assert (dataset.read("grain_id")[simulated] == -1).all()
    assert set(dataset.read("split")[simulated]) == {0, 1, 2}
    assert dataset.patterns(np.flatnonzero(simulated)).any(axis=(1, 2)).all()
    assert dataset.manifest.sources[1].kind == "simulated"
    assert build([index], tmp_path, simulated=9, min_confidence=0.9).path == dataset.path


@pytest.mark.parametrize("orientations", ["uniform", "around"])
def test_the_manifest_says_how_to_simulate_each_pattern_again_and_more_of_them(index, tmp_path, orientations):
    recipe = SimulationRecipe(orientations=orientations, k_max_inv_angstrom=0.8, n_azimuths=4)
    dataset = build([index], tmp_path, simulated=12, min_confidence=0.5, simulation=recipe)
    labels = {name: dataset.read(name) for name in ("orientation", "phase_id", "split", "draw")}
    plan = SimulationPlan.model_validate(dataset.manifest.simulation)
    phases = dataset.manifest.phases
    simulator = make_simulator(plan, phases, parents=training_parents(labels, n_phases=len(phases)))
    drawn = draw(simulator, np.arange(12))
    stored = np.flatnonzero(labels["draw"] >= 0)
    assert np.array_equal(drawn.orientation, labels["orientation"][stored])
    assert np.array_equal(simulate(simulator, drawn), dataset.patterns(stored))
    fresh = draw(simulator, np.arange(12, 24))
    assert not np.isclose(fresh.orientation, drawn.orientation).all(axis=1).any()


def test_patterns_simulated_around_labels_know_those_of_the_training_split_only(index, tmp_path):
    recipe = SimulationRecipe(orientations="around", spread_deg=1.0, k_max_inv_angstrom=0.8, n_azimuths=4)
    dataset = build([index], tmp_path, simulated=40, min_confidence=0.0, simulation=recipe)
    split, source, phase_id, q = (dataset.read(name) for name in ("split", "source", "phase_id", "orientation"))
    for number, phase in enumerate(dataset.manifest.phases):
        parents = q[(source == 0) & (split == 0) & (phase_id == number)]
        own = q[(source == 1) & (phase_id == number)]
        apart = orientations.disorientation_deg(own[:, None], parents[None], phase.proper_rotations())
        assert apart.min(axis=1).max() < 8


def test_a_sample_is_a_random_part_of_what_would_be_kept(index, tmp_path):
    whole = build([index], tmp_path, min_confidence=0.2)
    part = build([index], tmp_path, min_confidence=0.2, sample=20)
    pixels = {tuple(pixel): own for pixel, own in zip(whole.read("pixel"), whole.read("split"), strict=True)}
    assert part.n == 20
    assert [pixels[tuple(pixel)] for pixel in part.read("pixel")] == part.read("split").tolist()
    assert part.manifest.counts["dropped, not in the sample"] == whole.n - 20
    assert build([index], tmp_path, min_confidence=0.2, sample=20, seed=1).path.name != part.path.name
    with pytest.raises(InputError, match=rf"--sample 500: must be from 1 to {whole.n}"):
        build_dataset([index], root=tmp_path, min_confidence=0.2, sample=500, progress=False)


def test_the_counts_add_up_and_the_card_tells_them(index, tmp_path):
    dataset = build([index], tmp_path, min_confidence=0.7, simulated=4)
    counts = dataset.manifest.counts
    dropped = sum(n for rule, n in counts.items() if rule.startswith("dropped"))
    assert counts["pixels of the scans"] == MAP[0] * MAP[1] == dropped + counts["kept"]
    assert counts["dropped, not indexed"] == 3
    assert counts["kept"] + counts["simulated"] == dataset.n
    assert f"<td>kept</td><td>{counts['kept']}</td>" in (dataset.path / "card.html").read_text()
    card = (dataset.path / "card.md").read_text()
    assert f"| kept | {counts['kept']} |" in card
    assert "| 0.9 to 1.0 |" in card
    assert f"| inside grains | {counts['kept']} | 100.0 % | 100.0 % | 100.0 % | 100.0 % | 0.00 degrees |" in card
    assert (
        f"dpcurate build-dataset {index!s} --min-confidence 0.7 --simulated 4 --seed 0".replace(
            str(index), f"'{index}'"
        )
        in card
    )


@pytest.mark.parametrize("threshold", [-0.1, 1.5, float("nan"), 1.0])
def test_a_confidence_out_of_range_or_leaving_nothing_says_how_many_would_stay(index, tmp_path, threshold):
    result = read_index(index)
    stay = [int(((result.confidence >= p) & (result.phase_id >= 0)).sum()) for p in (0.5, 0.7, 0.9)]
    said = f"--min-confidence {threshold}.*{stay[0]} at 0.5, {stay[1]} at 0.7, {stay[2]} at 0.9 would stay"
    with pytest.raises(InputError, match=said):
        build_dataset([index], root=tmp_path, min_confidence=threshold, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_a_scan_that_is_gone_or_changed_is_refused(tmp_path, made):
    index = make_index(tmp_path / "a.hspy", made)
    with (tmp_path / "a.hspy").open("ab") as file:
        file.write(b"more")
    with pytest.raises(InputError, match=r"a.hspy: changed since .*a.index was made; index it again"):
        build_dataset([index], root=tmp_path, progress=False)
    (tmp_path / "a.hspy").unlink()
    with pytest.raises(InputError, match=r"its scan .*a.hspy is gone"):
        build_dataset([index], root=tmp_path, progress=False)


def test_scans_that_do_not_go_together_are_refused(index, tmp_path, made, monkeypatch):
    other = make_index(tmp_path / "a.hspy", made, seed=2, beam_energy_kev=300.0)
    with pytest.raises(InputError, match=r"300 keV, but .*my scan.index has 200"):
        build_dataset([index, other], root=tmp_path, progress=False)
    monkeypatch.setattr(f"{__name__}.SHAPE", (SHAPE[0] + 8, SHAPE[1] + 8))
    large = make_index(tmp_path / "large.hspy", made, seed=3)
    with pytest.raises(InputError, match=r"large.hspy: patterns of .* pixels, but .*my scan.hspy has .*bin the larger"):
        build_dataset([index, large], root=tmp_path, progress=False)
    with pytest.raises(InputError, match="index the same scan"):
        build_dataset([index, index], root=tmp_path, progress=False)
    with pytest.raises(InputError, match="No index given"):
        build_dataset([], root=tmp_path, progress=False)
