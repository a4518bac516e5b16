from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from fl_protocol.errors import ConfigError
from fl_tasks.models import MODEL_NAMES, build, check_name
from fl_tasks.torch_task import params_of


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_every_model_takes_a_grey_image_and_trains(name: str) -> None:
    torch.manual_seed(0)
    module = build(name, 2)
    logits = module(torch.randn(2, 1, 64, 64))
    assert logits.shape == (2, 2)
    logits.sum().backward()
    assert all(weight.grad is not None for weight in module.parameters())
    params = params_of(module)
    assert not [key for key in params if "num_batches_tracked" in key]
    assert any("running_mean" in key for key in params) == (name not in ("hilum-cnn", "tiny-cnn"))


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_every_model_takes_rgb_images(name: str) -> None:
    module = build(name, 9, 3).eval()
    assert module(torch.randn(1, 3, 64, 64)).shape == (1, 9)


def test_the_tiny_one_has_the_size_of_lenet() -> None:
    weights = sum(weight.numel() for weight in build("tiny-cnn", 10).parameters())
    assert 50_000 < weights < 65_000
    assert build("tiny-cnn", 10)(torch.randn(2, 1, 28, 28)).shape == (2, 10)


@pytest.mark.parametrize("name", ["hilum-cnn", "tiny-cnn"])
@pytest.mark.parametrize("size", [32, 33, 64, 97])
def test_our_own_take_any_size_and_work_in_place_nowhere(name: str, size: int) -> None:
    module = build(name, 3)
    assert module(torch.randn(1, 1, size, size)).shape == (1, 3)
    assert not any(getattr(part, "inplace", False) for part in module.modules())
    assert not any(isinstance(part, nn.BatchNorm2d) for part in module.modules())


def test_the_seed_decides_the_weights() -> None:
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(params_of(build("hilum-cnn", 2))["stem.weight"].tobytes())
    assert drawn[0] == drawn[1] != drawn[2]


def test_an_unknown_model_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="unknown model 'resnet': use one of hilum-cnn, "):
        check_name("resnet")


def test_the_names_and_our_own_model_need_no_torchvision() -> None:
    code = (
        "import sys, fl_tasks.models as m; print('torch' in sys.modules); "
        "m.build('hilum-cnn', 2); print('torchvision' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
