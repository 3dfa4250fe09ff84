"""Muon for the matrices of an encoder, AdamW for the rest (Jordan et al. 2024; Liu et al. 2025, arXiv:2502.16982).

A matrix's step is its momentum brought to singular values near one, by five Newton-Schulz iterations, and scaled to the
size of AdamW's usual step: learning rate and weight decay keep their meaning. A convolution's kernel counts as a
matrix of out_channels rows.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, Final

import torch

__all__ = ["MuonAdamW", "orthogonalise"]

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
