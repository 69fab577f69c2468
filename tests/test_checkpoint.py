import resource

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from dpcurate import orientations
from dpcurate.errors import InputError
from dptrain.augment import canonical, no_change
from dptrain.checkpoint import BEST, load_model, load_state, save_model, save_state, write_aside
from dptrain.config import read_config, to_toml
from dptrain.heads import build_head
from dptrain.models import build_network
from dptrain.runs import requested_config
from tests.conftest import CUBIC, SCALE, TRIGONAL, spot_patterns

torch.set_num_threads(1)  # several workers of pytest share the cores

PHASES = (CUBIC, TRIGONAL)


def small_config(**options):
    return requested_config("cnn", {"input": {"size": 32, "k_max": 1.2}, "head": {"max_cells": 200}, **options})


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(0)
    config = small_config()
    head = build_head(PHASES, config.head)
    network = build_network(config, n_outputs=head.n_outputs, orders=head.orders).eval()
    save_model(tmp_path / BEST, network, head=head, config=config, phases=PHASES)
    return tmp_path / BEST, network, head


def patterns(n=6):
    g = orientations.random_uniform(n, seed=1)
    return spot_patterns(CUBIC, g, shape=(32, 32), rng=np.random.default_rng(0))


def test_a_loaded_network_answers_as_the_saved_one_did(saved):
    path, network, head = saved
    counts = patterns()
    frames = canonical(
        torch.from_numpy(counts.astype(np.float32)),
        center_xy=np.full((6, 2), 15.5),
        scale=np.full(6, SCALE),
        config=small_config().input,
        change=no_change(6),
    )
    with torch.no_grad():
        expected = head.decode(network(frames), n_best=4)
    for source in (path, path.parent):
        predictor = load_model(source)
        found = predictor.predict(counts, (15.5, 15.5), SCALE, n_best=4)
        assert np.allclose(found[0], expected[0], atol=1e-4)
        assert np.allclose(found[1], expected[1], atol=1e-4)
        assert np.array_equal(found[2], expected[2])
    assert predictor.phases == PHASES
    assert predictor.config == small_config()
    assert (found[0].dtype, found[1].dtype, found[2].dtype) == (np.float64, np.float32, np.int16)


def test_predictions_do_not_depend_on_how_patterns_are_batched(saved):
    predictor, counts = load_model(saved[0]), np.concatenate([patterns()] * 50)
    together = predictor.predict(counts, (15.5, 15.5), SCALE, n_best=2)
    alone = predictor.predict(counts[:1], (15.5, 15.5), SCALE, n_best=2)
    assert np.allclose(together[1][0], alone[1][0], atol=1e-5)
    assert np.allclose(together[1][::6], alone[1], atol=1e-5)


def test_patterns_that_are_empty_or_hold_nan_give_finite_answers(saved):
    counts = np.stack([np.zeros((32, 32)), np.full((32, 32), np.nan), -np.ones((32, 32))])
    orientation, probability, _ = load_model(saved[0]).predict(counts, (15.5, 15.5), SCALE)
    assert np.isfinite(orientation).all()
    assert np.isfinite(probability).all()
    assert np.allclose(np.linalg.norm(orientation, axis=-1), 1, atol=1e-5)


def test_a_file_that_is_no_checkpoint_is_refused(saved, tmp_path):
    path, _, _ = saved
    with pytest.raises(InputError, match="no such checkpoint"):
        load_model(tmp_path / "nothing.safetensors")
    (tmp_path / "text.safetensors").write_text("hello")
    with pytest.raises(InputError, match="cannot be read as a checkpoint"):
        load_model(tmp_path / "text.safetensors")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="cannot be read as a checkpoint"):
        load_model(path)
    save_file({"weight": torch.zeros(3)}, path)
    with pytest.raises(InputError, match="not a checkpoint of dptrain"):
        load_model(path)


def test_a_checkpoint_of_another_model_or_with_missing_tensors_is_refused_by_name(saved, tmp_path):
    path, network, head = saved
    other = requested_config("densenet121", {"input": {"size": 32, "k_max": 1.2}, "head": {"max_cells": 200}})
    save_model(tmp_path / "other.safetensors", network, head=head, config=other, phases=PHASES)
    with pytest.raises(InputError, match="does not fit its model densenet121"):
        load_model(tmp_path / "other.safetensors")
    name = "network.0.weight"
    rewrite = load_file(path)
    metadata = {"format": "dptrain-1", "config": small_config().model_dump_json()}
    save_file(rewrite, path, metadata=metadata)
    with pytest.raises(InputError, match="config or phases are damaged"):
        load_model(path)
    save_model(path, network, head=head, config=small_config(), phases=PHASES)
    for problem, tensors in {
        "0.weight is missing": {key: value for key, value in rewrite.items() if key != name},
        r"0.weight has shape \(1,\)": rewrite | {name: torch.zeros(1)},
        "head's cells are missing": {key: value for key, value in rewrite.items() if key != "head.cells"},
    }.items():
        phases = "[" + ",".join(phase.model_dump_json() for phase in PHASES) + "]"
        save_file(tensors, path, metadata=metadata | {"phases": phases})
        with pytest.raises(InputError, match=problem):
            load_model(path)


def test_a_full_disk_is_one_sentence_and_leaves_the_last_good_file(tmp_path):
    path = tmp_path / "model.safetensors"
    write_aside(path, b"good")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(InputError, match=r"model.safetensors: could not be written .* make room.* --resume"):
            write_aside(path, b"x" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == b"good"
    assert list(tmp_path.iterdir()) == [path]


def test_a_state_comes_back_and_a_damaged_one_is_refused(tmp_path):
    path = tmp_path / "last.state.pt"
    state = {"weights": torch.arange(3.0), "progress": {"epoch": 3, "best": float("inf"), "rows": [{"loss": 0.5}]}}
    save_state(path, state)
    again = load_state(path)
    assert again["progress"] == state["progress"]
    assert torch.equal(again["weights"], state["weights"])
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match="damaged"):
        load_state(path)
    with pytest.raises(InputError, match="missing"):
        load_state(tmp_path / "none.pt")


def test_a_config_survives_its_file_and_a_changed_key_is_named(tmp_path):
    config, path = small_config(weights='a "quoted" \\ name é', epochs=3), tmp_path / "config.toml"
    path.write_text(to_toml(config), encoding="utf-8")
    assert read_config(path) == config
    path.write_text(to_toml(config).replace("batch_size", "batch_sise"), encoding="utf-8")
    with pytest.raises(InputError, match="batch_sise"):
        read_config(path)
    path.write_text("model = ", encoding="utf-8")
    with pytest.raises(InputError, match="not readable TOML"):
        read_config(path)
