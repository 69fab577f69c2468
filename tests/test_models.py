import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

from dpcurate.errors import InputError
from dptrain.backbones import densenet121, fitted_window, load_pretrained, load_timm, swin_tiny
from dptrain.config import TrainConfig
from dptrain.models import MODELS, build_network, initial_network, model_config
from dptrain.runs import requested_config

torch.set_num_threads(1)  # several workers of pytest share the cores

SEVEN = [
    "cnn",
    "densenet121",
    "densenet121-pretrained",
    "swin-tiny",
    "swin-tiny-pretrained",
    "swin-tiny-adjusted",
    "swin-tiny-adjusted-pretrained",
]


def test_the_table_holds_the_seven_networks_under_their_own_names():
    assert list(MODELS) == SEVEN
    for name in SEVEN:
        config = model_config(name)
        assert config.model == name
        assert config.network.pretrained == name.endswith("-pretrained")
        assert f"dptrain run --model {name}\n" in MODELS[name].__doc__


@pytest.mark.parametrize(
    ("name", "size"), [("cnn", 32), ("cnn", 128), ("densenet121", 64), ("swin-tiny", 64), ("swin-tiny-adjusted", 96)]
)
def test_every_network_takes_one_channel_of_any_size_and_learns_in_all_its_weights(name, size):
    config = requested_config(name, {"input": {"size": size, "frame": "cartesian"}})
    network = build_network(config, n_outputs=11)
    logits = network(torch.randn(4, 1, size, size))
    assert logits.shape == (4, 11)
    torch.nn.functional.cross_entropy(logits, torch.arange(4)).backward()
    assert [key for key, weight in network.named_parameters() if weight.grad is None] == []


def test_the_adjusted_swin_pads_nothing_and_the_standard_one_does():
    for size in range(32, 512, 32):
        network_stages = [size // 4, size // 8, size // 16]
        window = fitted_window(size)
        assert all(tokens % window == 0 for tokens in network_stages)
    assert fitted_window(128) == 8
    stages = swin_tiny(2, size=128, windows=8).layers
    assert [stage.blocks[0].window_size for stage in stages] == [(8, 8), (8, 8), (8, 8), (4, 4)]
    assert any((128 // 4 // 2**i) % 7 for i in range(3))


def test_an_unknown_model_is_refused_with_the_names_of_the_seven():
    with pytest.raises(InputError, match="swin-tiny-adjusted-pretrained"):
        model_config("resnet")


def rgb_weights(path, name, **changed):
    weights = load_timm().create_model(name, pretrained=False).state_dict() | changed
    save_file({key: value.contiguous() for key, value in weights.items()}, path)
    return weights


def with_weights(model, path, *, frame="cartesian"):
    return requested_config(model, {"weights": str(path), "input": {"frame": frame}})


@pytest.fixture(scope="module")
def densenet_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "densenet.safetensors"
    return path, rgb_weights(path, "densenet121")


def test_pretrained_colour_weights_are_summed_to_one_channel_and_the_classifier_is_new(densenet_file):
    path, rgb = densenet_file
    network = initial_network(with_weights("densenet121-pretrained", path), n_outputs=7).state_dict()
    first = "features.conv0.weight"
    assert torch.allclose(network[first], rgb[first].sum(1, keepdim=True), atol=1e-6)
    assert network["classifier.weight"].shape == (7, 1024)
    deep = "features.denseblock4.denselayer16.conv2.weight"
    assert torch.equal(network[deep], rgb[deep])


@pytest.mark.parametrize("name", ["densenet121", "swin-tiny", "swin-tiny-adjusted"])
def test_pretrained_weights_fit_the_networks_of_the_polar_frame_too(name, densenet_file, tmp_path):
    path, rgb = densenet_file
    if name != "densenet121":
        path = tmp_path / "swin.safetensors"
        rgb = rgb_weights(path, "swin_tiny_patch4_window7_224")
    torch.manual_seed(1)
    config = with_weights(f"{name}-pretrained", path, frame="polar")
    network = initial_network(config, n_outputs=7, orders=[0, 1, 1, 2, 2, 3, 3])
    own = dict(network.backbone.named_parameters())
    same = [key for key, tensor in own.items() if rgb[key].shape == tensor.shape]
    assert len(same) > 0.9 * len(own)
    assert [key for key in same if "bias_table" not in key and not torch.equal(own[key], rgb[key])] == []


def test_pretrained_swin_tables_are_interpolated_to_the_adjusted_window(tmp_path):
    path, table = tmp_path / "swin.safetensors", "layers.0.blocks.0.attn.relative_position_bias_table"
    down = torch.arange(-6.0, 7.0)[:, None, None].expand(13, 13, 3)
    rgb = rgb_weights(path, "swin_tiny_patch4_window7_224", **{table: down.reshape(-1, 3)})
    standard = initial_network(with_weights("swin-tiny-pretrained", path), n_outputs=7).state_dict()
    assert torch.equal(standard[table], rgb[table])
    adjusted = initial_network(with_weights("swin-tiny-adjusted-pretrained", path), n_outputs=7).state_dict()
    wider = adjusted[table].view(15, 15, 3)
    assert (wider - wider[:, :1]).abs().max() < 1e-4
    assert (wider.diff(dim=0) > 0).all()
    assert wider[[0, 7, 14], 0, 0].tolist() == pytest.approx([-6, 0, 6], abs=1e-4)
    name = "patch_embed.proj.weight"
    assert torch.allclose(adjusted[name], rgb[name].sum(1, keepdim=True), atol=1e-6)


def test_weights_that_do_not_fit_are_refused_by_the_name_of_the_tensor(densenet_file, tmp_path):
    _, rgb = densenet_file
    wrong = dict(rgb, **{"features.norm5.bias": torch.zeros(3)})
    save_file(wrong, tmp_path / "shape.safetensors")
    with pytest.raises(InputError, match=r"features.norm5.bias has shape \(3,\), expected \(1024,\)"):
        load_pretrained(densenet121(4), str(tmp_path / "shape.safetensors"))
    del wrong["features.norm5.bias"]
    save_file(wrong, tmp_path / "missing.safetensors")
    with pytest.raises(InputError, match=r"features.norm5.bias is missing"):
        load_pretrained(densenet121(4), str(tmp_path / "missing.safetensors"))


def test_weights_that_cannot_be_read_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        load_pretrained(densenet121(4), str(tmp_path / "none.safetensors"))
    (tmp_path / "bad.safetensors").write_bytes(b"not tensors at all")
    with pytest.raises(InputError, match=r"not a readable \.safetensors"):
        load_pretrained(densenet121(4), str(tmp_path / "bad.safetensors"))
    with pytest.raises(InputError, match="goes with a '-pretrained' model"):
        initial_network(with_weights("cnn", tmp_path / "bad.safetensors"), n_outputs=4)


def test_without_network_the_hub_is_given_up_at_once_with_advice(tmp_path):
    code = (
        "from dptrain.models import *\n"
        "from dpcurate.errors import InputError\n"
        "try: initial_network(model_config('swin-tiny-pretrained'), n_outputs=4)\n"
        "except InputError as error: print(error)\n"
    )
    # Port 9 of this machine answers nothing: a network that is not there.
    nowhere = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=os.environ | nowhere, capture_output=True, text=True, timeout=60, check=True)
    assert "could not be fetched" in done.stdout
    assert "--weights FILE.safetensors" in done.stdout


def test_a_config_refuses_keys_and_values_that_it_does_not_know():
    with pytest.raises(ValueError, match="extra"):
        TrainConfig(model="cnn", network={"architecture": "cnn"}, colour="red")
    with pytest.raises(ValueError, match="k_min"):
        TrainConfig(model="cnn", network={"architecture": "cnn"}, input={"k_min": 2.0, "k_max": 1.0})
