"""The optimizers, their groups of parameters, and the learning rate as a function of the step (paper, section 4.2).

Muon takes the matrices of an encoder, AdamW the rest (Jordan et al. 2024; Liu et al. 2025, arXiv:2502.16982). A
matrix's step is its momentum brought to singular values near one, by five Newton-Schulz iterations, and scaled to the
size of AdamW's usual step: learning rate and weight decay keep their meaning. A convolution's kernel counts as a matrix
of out_channels rows.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import torch
from torch import nn

from femae.config.train import OptimConfig

__all__ = [
    "MuonAdamW",
    "learning_rate",
    "make_optimizer",
    "make_schedule",
    "orthogonalise",
    "parameter_groups",
]

MOMENTUM: Final = 0.95
_NS: Final = (3.4445, -4.7750, 2.0315)  # the quintic's coefficients, of Jordan et al.


def orthogonalise(matrices: torch.Tensor) -> torch.Tensor:
    """float[K, A, B] -> bfloat16[K, A, B] of the same singular vectors and singular values of about 0.7 to 1.2."""
    x = matrices.bfloat16()
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    a, b, c = _NS
    for _ in range(5):
        gram = x @ x.mT
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return x.mT if tall else x


class MuonAdamW(torch.optim.AdamW):
    """One optimizer over groups with `muon` True (matrices and kernels) and False (AdamW, fused)."""

    def __init__(self, groups: Sequence[dict[str, Any]], *, betas: tuple[float, float]) -> None:
        super().__init__(list(groups), betas=betas, fused=True)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        groups = self.param_groups
        self.param_groups = [group for group in groups if not group["muon"]]
        try:
            result = super().step(closure)
        finally:
            self.param_groups = groups
        shapes: defaultdict[tuple[int, ...], list[tuple[torch.Tensor, dict[str, Any]]]] = defaultdict(list)
        for group in groups:
            if group["muon"]:
                for param in group["params"]:
                    if param.grad is not None:
                        shapes[tuple(param.shape)].append((param, group))
        for alike in shapes.values():  # one product for all matrices of a shape
            self._turn(alike)
        return result

    def _turn(self, alike: list[tuple[torch.Tensor, dict[str, Any]]]) -> None:
        ahead = []
        for param, _ in alike:
            assert param.grad is not None
            state = self.state[param]
            if "momentum_buffer" not in state:
                state["momentum_buffer"] = torch.zeros_like(param)
            momentum = state["momentum_buffer"].mul_(MOMENTUM).add_(param.grad)
            ahead.append(torch.add(param.grad, momentum, alpha=MOMENTUM).flatten(1))
        turned = orthogonalise(torch.stack(ahead)).float()
        scale = 0.2 * max(turned.shape[1:]) ** 0.5  # root mean square of AdamW's steps (Liu et al. 2025)
        for (param, group), change in zip(alike, turned, strict=True):
            param.mul_(1 - group["lr"] * group["weight_decay"])
            param.sub_(change.view(param.shape), alpha=group["lr"] * scale)


def learning_rate(epoch: float, config: OptimConfig, *, epochs: int, lr: float | None = None) -> float:
    """The learning rate after so many epochs (a fraction within one), linear warm-up first.

    `restarts`: eta_min + (lr - eta_min) * (1 + cos(pi * t / T)) / 2 with t epochs since the last restart and T this
    period's length (Loshchilov and Hutter 2016), counted from the end of the warm-up. `lr`: of a group with its own.
    """
    top = config.lr if lr is None else lr
    if epoch < config.warmup_epochs:
        return top * max(epoch, 1e-3) / config.warmup_epochs
    if config.schedule == "constant":
        return top
    since = epoch - config.warmup_epochs
    period = max(epochs - config.warmup_epochs, 1e-9)
    if config.schedule == "restarts":
        period = config.restart_epochs
        while since >= period:
            since -= period
            period *= config.restart_mult
    low = min(config.eta_min, top)
    return low + (top - low) * 0.5 * (1 + math.cos(math.pi * min(since / period, 1.0)))


def _layer(name: str, depth: int) -> int:
    """0: stem and positions, 1..depth: blocks, depth + 1: everything above them."""
    if not name.startswith("encoder."):
        return depth + 1
    name = name.removeprefix("encoder.")
    if name.startswith("blocks."):
        return int(name.split(".")[1]) + 1
    return 0 if name.startswith(("patch_embed", "pos_embed", "cls_token", "reg_token", "norm_pre")) else depth + 1


def _turns(name: str, param: nn.Parameter) -> bool:
    """Is this a matrix or kernel of the encoder or decoder's inner layers, as Muon takes them?"""
    inner = name.startswith(("encoder.blocks.", "encoder.patch_embed.", "decoder_blocks.", "decoder_embed."))
    return inner and param.ndim >= 2 and param.flatten(1).shape[1] > 9  # 9: the first kernel over a gray picture


def parameter_groups(
    named: Iterable[tuple[str, nn.Parameter]], config: OptimConfig, *, depth: int
) -> list[dict[str, Any]]:
    """Groups of learning parameters: by layer (layer_decay), without weight decay where a tensor has one dimension.

    Each group has `params`, `names`, `lr`, `weight_decay` and `muon`; groups come in a fixed order.
    """
    groups: dict[tuple[int, bool, bool], dict[str, list[object]]] = {}
    for name, param in named:
        if param.requires_grad:
            plain = param.ndim <= 1 or name.endswith(("pos_embed", "cls_token", "reg_token", "mask_token"))
            muon = config.kind == "muon" and not plain and _turns(name, param)
            group = groups.setdefault((_layer(name, depth), plain, muon), {"params": [], "names": []})
            group["params"].append(param)
            group["names"].append(name)
    return [
        {
            **group,
            "lr": config.lr * config.layer_decay ** (depth + 1 - layer),
            "weight_decay": 0.0 if plain else config.weight_decay,
            "muon": muon,
        }
        for (layer, plain, muon), group in sorted(groups.items())
    ]


def make_optimizer(model: nn.Module, config: OptimConfig, *, depth: int) -> torch.optim.AdamW:
    """The optimizer over a model's learning parameters; AdamW is fused: a step is one pass over memory."""
    groups = parameter_groups(model.named_parameters(), config, depth=depth)
    if config.kind == "muon":
        return MuonAdamW(groups, betas=config.betas)
    return torch.optim.AdamW(groups, betas=config.betas, fused=True)


def make_schedule(
    optimizer: torch.optim.Optimizer, config: OptimConfig, *, epochs: int, epoch_of: Callable[[int], float]
) -> torch.optim.lr_scheduler.LambdaLR:
    """The schedule of every group as a function of the step; `epoch_of(step)` gives the epochs done."""

    def factor(lr: float) -> Callable[[int], float]:
        return lambda step: learning_rate(epoch_of(step), config, epochs=epochs, lr=lr) / lr

    return torch.optim.lr_scheduler.LambdaLR(optimizer, [factor(group["lr"]) for group in optimizer.param_groups])
