"""Validation: each process its share of the rows, the figures once over all."""

from typing import Any, Final

import numpy as np
import torch
import torch.distributed
from lightning_fabric import Fabric

from femae.training.feed import make_batch
from femae.training.task import Evaluation, Task

__all__ = ["evaluate"]

_EVAL_BATCH: Final = 256


def evaluate(task: Task, fabric: Fabric) -> Evaluation:
    """Validate with the weights that the model has now: each process its share, the figures once over all.

    Every process calls the network equally often, as sharded weights need it: one without rows of its own in the last
    chunk takes another's and drops what comes of it.
    """
    task.model.eval()
    mine: list[tuple[np.ndarray, dict[str, Any]]] = []
    with torch.inference_mode():
        for rows in task.val_set.row_chunks(_EVAL_BATCH):
            share = rows[fabric.global_rank :: fabric.world_size]
            taken = share if len(share) else rows[:1]
            batch = make_batch(task.val_set, taken, task.val_set.read(taken, model=task.config.model))
            numbers = torch.from_numpy(taken).to(fabric.device)
            found = task.collect(task.model, batch.to(fabric.device), numbers)
            arrays = {name: value.cpu().numpy() for name, value in found.items()}
            if len(share):
                mine.append((share, arrays))
    parts = [mine]
    if fabric.world_size > 1:
        parts = [[] for _ in range(fabric.world_size)]
        torch.distributed.all_gather_object(parts, mine)
    every = [item for part in parts for item in part]
    order = np.argsort(np.concatenate([rows for rows, _ in every]))
    names = every[0][1]
    return task.judge({name: np.concatenate([arrays[name] for _, arrays in every])[order] for name in names})
