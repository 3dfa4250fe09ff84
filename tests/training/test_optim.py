"""Learning rates, parameter groups and averages, against numpy in float64 and torch's schedule."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs femae[train]")

from torch import nn

from femae.config.model import ModelConfig
from femae.config.train import OptimConfig
from femae.models.face import FaceModel
from femae.training.loop.ema import WeightAverage
from femae.training.loop.optim import learning_rate, make_optimizer, make_schedule, parameter_groups


def test_warm_restarts_equal_torchs_schedule_and_the_formula() -> None:
    config = OptimConfig(lr=1e-4, schedule="restarts", warmup_epochs=0, restart_epochs=5, restart_mult=2, eta_min=1e-8)
    parameter = nn.Parameter(torch.zeros(1))
    theirs = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(
        torch.optim.SGD([parameter], lr=1e-4), T_0=5, T_mult=2, eta_min=1e-8
    )
    for epoch in np.arange(0, 30, 0.25):
        theirs.step(float(epoch))
        since, period = epoch, 5.0
        while since >= period:
            since, period = since - period, 2 * period
        expected = 1e-8 + 0.5 * (1e-4 - 1e-8) * (1 + math.cos(math.pi * since / period))
        found = learning_rate(float(epoch), config, epochs=30)
        assert found == pytest.approx(expected, rel=1e-12)
        assert found == pytest.approx(theirs.get_last_lr()[0], rel=1e-9)


def test_cosine_ends_at_eta_min_after_a_linear_warm_up() -> None:
    config = OptimConfig(lr=1e-3, schedule="cosine", warmup_epochs=2, eta_min=1e-6)
    assert learning_rate(1.0, config, epochs=10) == pytest.approx(5e-4)
    assert learning_rate(2.0, config, epochs=10) == pytest.approx(1e-3)
    assert learning_rate(6.0, config, epochs=10) == pytest.approx(1e-6 + (1e-3 - 1e-6) / 2)
    assert learning_rate(10.0, config, epochs=10) == pytest.approx(1e-6)
    assert learning_rate(7.0, OptimConfig(schedule="constant"), epochs=10) == 1e-3


def test_layer_decay_lowers_the_rate_block_by_block() -> None:
    model = FaceModel(ModelConfig(embed_dim=32, depth=3, num_heads=2, stem_width=8), outputs=("a",))
    config = OptimConfig(lr=1e-3, layer_decay=0.5, weight_decay=0.1)
    groups = parameter_groups(model.named_parameters(), config, depth=3)
    rates = {name: group["lr"] for group in groups for name in group["names"]}
    assert rates["head.weight"] == 1e-3
    assert rates["encoder.blocks.2.attn.qkv.weight"] == 5e-4
    assert rates["encoder.blocks.0.mlp.fc1.weight"] == 1.25e-4
    assert rates["encoder.patch_embed.layers.0.0.weight"] == rates["encoder.pos_embed"] == 6.25e-5
    decay = {name: group["weight_decay"] for group in groups for name in group["names"]}
    assert decay["head.weight"] == 0.1
    assert decay["head.bias"] == decay["encoder.pos_embed"] == decay["encoder.blocks.0.norm1.weight"] == 0
    assert len(rates) == len(list(model.parameters()))

    optimizer = make_optimizer(model, config, depth=3)
    schedule = make_schedule(optimizer, OptimConfig(lr=1e-3, warmup_epochs=0), epochs=4, epoch_of=lambda step: step / 2)
    for _ in range(4):
        optimizer.step()
        schedule.step()
    expected = 1e-8 + (1e-3 - 1e-8) / 2
    for group in optimizer.param_groups:
        assert group["lr"] / group["initial_lr"] == pytest.approx(expected / 1e-3, rel=1e-3)


def test_the_average_keeps_decay_on_itself() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).double()
    average = WeightAverage(model, decay=0.9)
    expected = model[0].weight.detach().numpy().copy()
    rng = np.random.default_rng(0)
    for step in range(1, 40):
        values = rng.normal(size=(2, 3))
        with torch.no_grad():
            model[0].weight.copy_(torch.from_numpy(values))
            model[1].num_batches_tracked += 1
        average.update()
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * values
    assert average.tensors["0.weight"].numpy() == pytest.approx(expected, rel=1e-12)
    assert int(average.tensors["1.num_batches_tracked"]) == 39
    own = model[0].weight.detach().clone()
    with average.applied():
        assert torch.equal(model[0].weight, average.tensors["0.weight"])
    assert torch.equal(model[0].weight, own)


def test_without_decay_the_average_is_the_weights() -> None:
    model = nn.Linear(2, 2)
    average = WeightAverage(model, decay=0)
    with torch.no_grad():
        model.weight.fill_(3)
    average.update()
    assert torch.equal(average.tensors["weight"], model.weight)


def test_a_recipe_fits_any_number_of_devices_and_its_rate_follows_the_batch() -> None:
    from femae.config.train import PretrainConfig, RunConfig
    from femae.errors import ConfigError
    from femae.training.loop.devices import make_fabric

    run = RunConfig(batch_size=4096, device_batch=256)
    assert [run.pieces(devices) for devices in (1, 8, 64)] == [16, 2, 1]
    assert RunConfig(batch_size=100, device_batch=48).pieces(1) == 3 and RunConfig(accumulate=3).pieces(5) == 3
    with pytest.raises(ConfigError, match="accumulate follows from device_batch"):
        RunConfig(device_batch=8, accumulate=2)
    config = PretrainConfig(optim={"lr": 1.5e-4, "lr_batch": 256}, run={"batch_size": 4096})
    assert config.scaled_optim.lr == pytest.approx(2.4e-3)  # MAE's, as He et al. write it down
    assert PretrainConfig(optim={"lr": 0.5}, run={"batch_size": 7}).scaled_optim.lr == 0.5
    with pytest.raises(ConfigError, match="less than one picture for each part"):
        make_fabric(RunConfig(batch_size=3, accumulate=4, accelerator="cpu", precision="32-true"))
