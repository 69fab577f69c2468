import io
import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from dpcurate.errors import InputError
from dptrain.checkpoint import BEST, load_model, save_model
from dptrain.cli import main
from dptrain.export import BATCHES, Answering, export_model, largest_difference, sample_frames
from dptrain.heads import build_head
from dptrain.model_card import card
from dptrain.models import build_network
from dptrain.runs import open_run_dataset
from tests.conftest import CUBIC, TRIGONAL
from tests.small_scan import small_run
from tests.test_checkpoint import small_config

torch.set_num_threads(1)  # several workers of pytest share the cores


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(0)
    config = small_config()
    head = build_head((CUBIC, TRIGONAL), config.head)
    network = build_network(config, n_outputs=head.n_outputs, orders=head.orders).eval()
    save_model(tmp_path / BEST, network, head=head, config=config, phases=(CUBIC, TRIGONAL))
    return tmp_path


def test_onnx_gives_the_outputs_of_the_network_at_any_batch_size_and_carries_what_is_needed(saved):
    path, difference = export_model(saved, file_format="onnx")
    assert path == saved / "model.onnx"
    assert difference < 1e-4
    predictor = load_model(saved)
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    for n in (1, 5):
        frames = sample_frames(predictor, n)
        with torch.no_grad():
            wanted = predictor.network(frames)
        (found,) = session.run(["outputs"], {"frames": frames.numpy()})
        np.testing.assert_allclose(found, wanted, atol=1e-4)
    told = json.loads({prop.key: prop.value for prop in onnx.load(path).metadata_props}["dptrain"])
    assert told["preprocessing"]["k_max"] == 1.2
    assert told["preprocessing"]["shape"] == [1, 16, 64]
    np.testing.assert_allclose(told["head"]["cells"], predictor.head.state_dict()["cells"], atol=1e-12)
    assert [phase["name"] for phase in told["phases"]] == ["cubic", "trigonal"]
    assert "lab to crystal" in told["conventions"]["orientation"]


def test_a_torch_program_gives_the_answers_of_the_network_at_any_batch_size(saved):
    path, _ = export_model(saved, file_format="torch")
    extra = {"dptrain.json": ""}
    program = torch.export.load(io.BytesIO(path.read_bytes()), extra_files=extra).module()
    predictor = load_model(saved)
    frames = sample_frames(predictor, 6)
    with torch.no_grad():
        outputs = predictor.network(frames)
        wanted = predictor.head.decode(outputs, n_best=20)
        found = program(frames)
    torch.testing.assert_close(found[0], outputs, atol=1e-5, rtol=1e-5)
    for one, other in zip(found[1:], wanted, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    assert json.loads(extra["dptrain.json"])["preprocessing"]["power"] == 0.25


def test_an_export_that_is_not_equal_is_refused_with_its_difference(saved):
    predictor = load_model(saved)
    module = Answering(predictor).eval()

    def nearly(frames):
        outputs, *rest = module(frames)
        return (outputs * 1.001, *rest) if len(frames) == BATCHES[-1] else (outputs, *rest)

    with torch.no_grad(), pytest.raises(InputError, match=r"it: not written, .* differs .* by 0.00"):
        largest_difference(nearly, module, predictor, what="it")


def test_a_file_that_is_there_is_kept_and_an_unknown_format_is_refused(saved, capsys):
    (saved / "model.onnx").write_text("mine", encoding="utf-8")
    for arguments, words in ((["--format", "onnx"], "model.onnx: exists already"), (["--format", "tf"], "--format tf")):
        with pytest.raises(SystemExit) as end:
            main(["export", str(saved), *arguments])
        assert end.value.code == 2
        assert words in capsys.readouterr().err
    assert (saved / "model.onnx").read_text(encoding="utf-8") == "mine"


def test_the_model_card_tells_data_labels_conventions_scores_and_limits(tmp_path_factory):
    run = small_run(tmp_path_factory.getbasetemp())
    predictor = load_model(run)
    manifest = open_run_dataset(predictor.config).manifest
    text = card(predictor, run / BEST)
    for heading in ("## Data", "## Labels", "## Conventions", "## Scores", "## Limits"):
        assert heading in text
    assert f"small@{manifest.version}" in text
    assert "24 simulated" in text
    assert "have confidence 0.95 (median" in text
    assert "Validation, epoch" in text


def test_the_card_of_a_network_whose_dataset_is_gone_says_so(saved):
    text = card(load_model(saved), saved / BEST)
    assert "does not say on which dataset" in text
    assert "None lie beside the checkpoint" in text
