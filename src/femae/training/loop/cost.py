"""What a network costs before it is run: parameters, arithmetic and memory, counted without computing anything."""

from typing import Any

import torch
from torch import nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from femae.config.model import ModelConfig

__all__ = ["example_inputs", "training_flops"]


def example_inputs(model: ModelConfig, *, count: int, masked: bool, device: torch.device | str) -> tuple[Any, ...]:
    """Inputs of a stage's network: pixels float[B, C, S, S], and for pretraining the masks' numbers float[B, N]."""
    pixels = torch.zeros(count, model.in_chans, model.image_size, model.image_size, device=device)
    return (pixels, torch.rand(count, model.num_patches, device=device)) if masked else (pixels,)


def training_flops(network: nn.Module, inputs: tuple[torch.Tensor, ...]) -> float:
    """FLOP of forward and backward pass for one picture of `inputs`, counted by torch on tensors without memory.

    What learns is as it is in the network; a second forward pass of gradient checkpointing does not count.
    """
    state = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    without = {name: value.detach().to("meta").requires_grad_(value.requires_grad) for name, value in state.items()}
    learns = any(value.requires_grad for value in without.values())
    with FlopCounterMode(display=False) as counter:
        output = functional_call(network, without, tuple(value.to("meta") for value in inputs))
        if learns:
            outputs = [value for value in output if value.requires_grad] if isinstance(output, tuple) else [output]
            torch.autograd.backward([value.float().sum() for value in outputs])
    return counter.get_total_flops() / len(inputs[0])
