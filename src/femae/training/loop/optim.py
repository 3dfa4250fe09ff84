"""The optimizers, their parameter groups, and the learning rate as a function of the step (paper, section 4.2).

Muon updates the matrices of an encoder, AdamW the rest (Jordan et al. 2024; Liu et al. 2025, arXiv:2502.16982). The
update of a matrix is its momentum, orthogonalised by five Newton-Schulz iterations and scaled to the size of a typical
AdamW update, so that learning rate and weight decay keep their meaning. A convolution's kernel counts as a matrix of
out_channels rows.
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
_NEWTON_SCHULZ: Final = (3.4445, -4.7750, 2.0315)  # coefficients of the quintic (Jordan et al. 2024)


def orthogonalise(matrices: torch.Tensor) -> torch.Tensor:
    """float[K, A, B] -> bfloat16[K, A, B] with the same singular vectors and singular values of about 0.7 to 1.2."""
    x = matrices.bfloat16()
    is_tall = x.shape[1] > x.shape[2]
    x = x.mT if is_tall else x
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    a, b, c = _NEWTON_SCHULZ
    for _ in range(5):
        gram = x @ x.mT
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return x.mT if is_tall else x


class MuonAdamW(torch.optim.AdamW):
    """Muon for parameter groups with `muon` True (matrices and kernels), fused AdamW for those with False."""

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
        by_shape: defaultdict[tuple[int, ...], list[tuple[torch.Tensor, dict[str, Any]]]] = defaultdict(list)
        for group in groups:
            if group["muon"]:
                for param in group["params"]:
                    if param.grad is not None:
                        by_shape[tuple(param.shape)].append((param, group))
        for params in by_shape.values():
            self._muon_step(params)
        return result

    def _muon_step(self, params: list[tuple[torch.Tensor, dict[str, Any]]]) -> None:
        """Update (parameter, its group) of one shape, with one batched orthogonalisation."""
        nesterov = []
        for param, _ in params:
            assert param.grad is not None
            state = self.state[param]
            if "momentum_buffer" not in state:
                state["momentum_buffer"] = torch.zeros_like(param)
            momentum = state["momentum_buffer"].mul_(MOMENTUM).add_(param.grad)
            nesterov.append(torch.add(param.grad, momentum, alpha=MOMENTUM).flatten(1))
        updates = orthogonalise(torch.stack(nesterov)).float()
        scale = 0.2 * max(updates.shape[1:]) ** 0.5  # matches the root mean square of AdamW's updates (Liu et al. 2025)
        for (param, group), update in zip(params, updates, strict=True):
            param.mul_(1 - group["lr"] * group["weight_decay"])
            param.sub_(update.view(param.shape), alpha=group["lr"] * scale)


def learning_rate(epoch: float, config: OptimConfig, *, epochs: int, lr: float | None = None) -> float:
    """The learning rate after `epoch` epochs (fractional), with linear warm-up.

    `restarts`: eta_min + (lr - eta_min) * (1 + cos(pi * t / T)) / 2 with t epochs since the last restart and T the
    length of the period (Loshchilov and Hutter 2016), counted from the end of the warm-up. `lr` replaces config.lr.
    """
    peak = config.lr if lr is None else lr
    if epoch < config.warmup_epochs:
        return peak * max(epoch, 1e-3) / config.warmup_epochs
    if config.schedule == "constant":
        return peak
    since = epoch - config.warmup_epochs
    period = max(epochs - config.warmup_epochs, 1e-9)
    if config.schedule == "restarts":
        period = config.restart_epochs
        while since >= period:
            since -= period
            period *= config.restart_mult
    low = min(config.eta_min, peak)
    return low + (peak - low) * 0.5 * (1 + math.cos(math.pi * min(since / period, 1.0)))


def _layer_index(name: str, depth: int) -> int:
    """Layer of a parameter. 0: stem and position embedding, 1..depth: blocks, depth + 1: everything above."""
    if not name.startswith("encoder."):
        return depth + 1
    name = name.removeprefix("encoder.")
    if name.startswith("blocks."):
        return int(name.split(".")[1]) + 1
    return 0 if name.startswith(("patch_embed", "pos_embed", "cls_token", "reg_token", "norm_pre")) else depth + 1


def _is_muon_param(name: str, param: nn.Parameter) -> bool:
    """Whether Muon updates this parameter: a matrix or kernel of the encoder's or decoder's inner layers."""
    is_inner = name.startswith(("encoder.blocks.", "encoder.patch_embed.", "decoder_blocks.", "decoder_embed."))
    return is_inner and param.ndim >= 2 and param.flatten(1).shape[1] > 9  # 9: first 3 x 3 kernel on gray pictures


def parameter_groups(
    named: Iterable[tuple[str, nn.Parameter]], config: OptimConfig, *, depth: int
) -> list[dict[str, Any]]:
    """Parameter groups of the trainable parameters: by layer (layer_decay), weight decay and optimizer.

    Vectors, position embeddings and tokens have no weight decay. Each group has `params`, `names`, `lr`,
    `weight_decay` and `muon`; the order of groups is fixed.
    """
    groups: dict[tuple[int, bool, bool], dict[str, list[object]]] = {}
    for name, param in named:
        if param.requires_grad:
            no_decay = param.ndim <= 1 or name.endswith(("pos_embed", "cls_token", "reg_token", "mask_token"))
            muon = config.kind == "muon" and not no_decay and _is_muon_param(name, param)
            group = groups.setdefault((_layer_index(name, depth), no_decay, muon), {"params": [], "names": []})
            group["params"].append(param)
            group["names"].append(name)
    return [
        {
            **group,
            "lr": config.lr * config.layer_decay ** (depth + 1 - layer),
            "weight_decay": 0.0 if no_decay else config.weight_decay,
            "muon": muon,
        }
        for (layer, no_decay, muon), group in sorted(groups.items())
    ]


def make_optimizer(model: nn.Module, config: OptimConfig, *, depth: int) -> torch.optim.AdamW:
    """The optimizer of a model's trainable parameters: fused AdamW, or MuonAdamW."""
    groups = parameter_groups(model.named_parameters(), config, depth=depth)
    if config.kind == "muon":
        return MuonAdamW(groups, betas=config.betas)
    return torch.optim.AdamW(groups, betas=config.betas, fused=True)


def make_schedule(
    optimizer: torch.optim.Optimizer, config: OptimConfig, *, epochs: int, epoch_of: Callable[[int], float]
) -> torch.optim.lr_scheduler.LambdaLR:
    """The learning-rate schedule of every group; `epoch_of(step)` gives the epochs completed at a step."""

    def factor(lr: float) -> Callable[[int], float]:
        return lambda step: learning_rate(epoch_of(step), config, epochs=epochs, lr=lr) / lr

    return torch.optim.lr_scheduler.LambdaLR(optimizer, [factor(group["lr"]) for group in optimizer.param_groups])
