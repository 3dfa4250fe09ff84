"""Estimates the cost of training before it runs: parameters, FLOPs and memory, counted on meta tensors.

`femae train RECIPE --plan` prints it for every stage of a recipe, without training or reading any picture.
"""

import json
from collections.abc import Iterator
from typing import Any, Final

import torch
from torch import nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from femae.config.model import ModelConfig
from femae.config.recipe import AblationConfig, ChainConfig, KfoldConfig, Recipe, Stage
from femae.config.train import PretrainConfig
from femae.data.store.addresses import is_file, read_text
from femae.data.store.shards import ACTION_UNITS
from femae.labels import EMOTIONS

__all__ = [
    "example_inputs",
    "plan",
    "training_flops",
]


def example_inputs(model: ModelConfig, *, count: int, masked: bool, device: torch.device | str) -> tuple[Any, ...]:
    """Example inputs of a stage's network: pixels float[B, C, S, S], and if `masked` the mask noise float[B, N]."""
    pixels = torch.zeros(count, model.in_chans, model.image_size, model.image_size, device=device)
    return (pixels, torch.rand(count, model.num_patches, device=device)) if masked else (pixels,)


def training_flops(network: nn.Module, inputs: tuple[torch.Tensor, ...]) -> float:
    """FLOPs of the forward and backward pass per picture of `inputs`, counted by torch on meta tensors.

    Frozen parameters are respected; the second forward pass of gradient checkpointing does not count.
    """
    state = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    meta = {name: value.detach().to("meta").requires_grad_(value.requires_grad) for name, value in state.items()}
    is_trained = any(value.requires_grad for value in meta.values())
    with FlopCounterMode(display=False) as counter:
        output = functional_call(network, meta, tuple(value.to("meta") for value in inputs))
        if is_trained:
            outputs = [value for value in output if value.requires_grad] if isinstance(output, tuple) else [output]
            torch.autograd.backward([value.float().sum() for value in outputs])
    return counter.get_total_flops() / len(inputs[0])


_STATE_BYTES: Final = 4 + 4 + 8  # per parameter: weight, gradient, two moments
_SAMPLE_BATCH: Final = 4  # pictures whose activations are counted


def _stages(recipe: Recipe) -> Iterator[tuple[str, Stage, int]]:
    """(name, stage, number of times it is trained) of each stage of a recipe."""
    if isinstance(recipe, ChainConfig):
        for step in recipe.steps:
            for name, stage, times in _stages(step.recipe):
                yield f"{step.name}: {name}", stage, times
    elif isinstance(recipe, KfoldConfig):
        yield f"emotion, {recipe.num_folds} folds", recipe.emotion, recipe.num_folds
    elif isinstance(recipe, AblationConfig):
        runs = len(recipe.rows) * len(recipe.seeds)
        yield f"emotion, {runs} runs", recipe.emotion, runs
    else:
        yield recipe.stage, recipe, 1


def _network(stage: Stage) -> nn.Module:
    """The network of a stage on the meta device."""
    from femae.models.face import FaceModel
    from femae.models.mae import MaskedAutoencoder

    with torch.device("meta"):
        if isinstance(stage, PretrainConfig):
            return MaskedAutoencoder(stage.model, decoder=stage.decoder, mask_ratio=stage.mask_ratio)
        outputs = EMOTIONS if stage.stage == "emotion" else ()
        return FaceModel(stage.model, outputs=outputs, au_names=ACTION_UNITS[:12] if stage.stage == "au" else ())


def _num_activations(network: nn.Module, inputs: tuple[torch.Tensor, ...]) -> float:
    """Number of values saved for the backward pass, per picture."""
    params = {id(param) for param in network.parameters()}
    saved: dict[int, torch.Tensor] = {}

    def save(value: torch.Tensor) -> torch.Tensor:
        if id(value) not in params:
            saved[id(value)] = value  # holding a reference keeps its id from being reused
        return value

    with torch.autograd.graph.saved_tensors_hooks(save, lambda value: value):
        network(*inputs)
    return sum(value.numel() for value in saved.values()) / len(inputs[0])


def _num_pictures(stage: Stage) -> int | None:
    """Total number of rows of the stage's folders, over all splits and sources; None if a manifest is missing."""
    total = 0
    for folder in stage.data.folders:
        path = folder / "manifest.json"
        if not is_file(path):
            return None
        total += int(json.loads(read_text(path))["num_samples"])
    return total or None


def _stage_lines(name: str, stage: Stage, times: int, *, devices: int, rate: float, pictures: int | None) -> list[str]:
    network, run, shape = _network(stage).train(), stage.run, stage.model
    masked = isinstance(stage, PretrainConfig)
    inputs = example_inputs(shape, count=_SAMPLE_BATCH, masked=masked, device="meta")
    flops = training_flops(network, inputs)
    if run.grad_checkpointing:
        encoder: Any = network.encoder
        encoder.set_grad_checkpointing(True)
    params = sum(param.numel() for param in network.parameters())
    state = params * (_STATE_BYTES + (4 if run.ema_decay else 0)) / (devices if run.strategy == "fsdp" else 1)
    parts = run.pieces(devices)
    piece = -(-run.batch_size // (devices * parts))
    width = 4 if run.precision == "32-true" else 2
    activations = _num_activations(network, inputs) * width * piece
    per_epoch = pictures or _num_pictures(stage)
    lines = [
        f"{name}: {params / 1e6:,.1f} M parameters, {flops / 1e9:,.2f} GFLOP per picture (forward and backward pass)",
        f"  {shape.in_chans * shape.image_size**2:,} bytes per picture in memory; a step of {run.batch_size:,} "
        f"pictures is {piece:,} on each of {devices} devices, {parts} times",
        f"  about {(state + activations) / 2**30:,.1f} GB on each device: {state / 2**30:,.1f} for weights, gradients, "
        f"moments and average, {activations / 2**30:,.1f} for activations",
    ]
    hours = run.epochs * times * (per_epoch or 1e6) / (rate * devices) / 3600
    what = "each million pictures"
    if per_epoch is not None:
        what = f"{per_epoch:,} pictures" + (f", {times} times" if times > 1 else "")
    return [
        *lines,
        f"  {run.epochs} epochs of {what}: {hours:,.2f} hours, if each of {devices} devices does {rate:,.0f} pictures "
        f"a second",
        f"  that is {flops * rate / 1e12:,.1f} TFLOP/s on each device",
    ]


def plan(recipe: Recipe, *, devices: int = 1, rate: float = 1000.0, pictures: int | None = None) -> str:
    """Text with the parameters, FLOPs, memory and hours of each stage.

    `rate`: pictures per second and device, e.g. from benchmarks/results; `pictures`: per epoch, by default all rows of
    the recipe's folders. FLOPs are counted, memory is estimated from the activations that eager torch saves for the
    backward pass.
    """
    lines = []
    for name, stage, times in _stages(recipe):
        lines += _stage_lines(name, stage, times, devices=devices, rate=rate, pictures=pictures)
    return "\n".join(lines)
