"""Validation: each process computes its share of the rows; metrics are computed over all of them."""

from typing import Final

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed
from lightning_fabric import Fabric

from femae.training.loader.loader import LoaderSpec, row_batches
from femae.training.loop.task import Evaluation, Task

__all__ = ["evaluate"]

_EVAL_BATCH: Final = 256


def evaluate(task: Task, fabric: Fabric) -> Evaluation:
    """Validate the model's current weights; a collective call.

    Sharded weights require every process to call the network equally often: one without rows in the last chunk computes
    a row of another process and drops the result. Outputs stay on the device until all chunks are done.
    """
    task.model.eval()
    shares: list[npt.NDArray[np.int64]] = []
    inputs: list[npt.NDArray[np.int64]] = []  # the shares, with a substitute for empty ones
    for rows in task.val_set.row_chunks(_EVAL_BATCH):
        share = rows[fabric.global_rank :: fabric.world_size]
        shares.append(share)
        inputs.append(share if len(share) else rows[:1])
    outputs: list[dict[str, torch.Tensor]] = []
    with torch.inference_mode():
        spec = LoaderSpec(
            faces=task.val_set, model=task.config.model, device=fabric.device, workers=task.config.data.workers
        )
        for rows, batch in zip(inputs, row_batches(spec, inputs, longest=_EVAL_BATCH), strict=True):
            numbers = torch.from_numpy(rows).to(fabric.device)
            outputs.append(task.collect(task.model, batch, numbers))
    arrays = {
        name: torch.cat([part[name][: len(share)] for part, share in zip(outputs, shares, strict=True)]).cpu().numpy()
        for name in outputs[0]
    }
    parts = [(np.concatenate(shares), arrays)]
    if fabric.world_size > 1:
        parts = parts * fabric.world_size
        torch.distributed.all_gather_object(parts, (np.concatenate(shares), arrays))
    order = np.argsort(np.concatenate([rows for rows, _ in parts]))
    return task.evaluate({name: np.concatenate([part[name] for _, part in parts])[order] for name in arrays})
