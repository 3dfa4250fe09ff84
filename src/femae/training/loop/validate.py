"""Validation: each process computes its share of the rows; figures are made once, over all."""

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
    """Validate with the weights that the model has now: each process its share, the figures once over all.

    Every process calls the network equally often, as sharded weights need it: one without rows of its own in the last
    chunk takes another's and drops what comes of it. What the chunks give stays on the device until all are done.
    """
    task.model.eval()
    mine: list[npt.NDArray[np.int64]] = []
    taken: list[npt.NDArray[np.int64]] = []
    for rows in task.val_set.row_chunks(_EVAL_BATCH):
        share = rows[fabric.global_rank :: fabric.world_size]
        mine.append(share)
        taken.append(share if len(share) else rows[:1])
    found: list[dict[str, torch.Tensor]] = []
    with torch.inference_mode():
        data = LoaderSpec(
            faces=task.val_set, model=task.config.model, device=fabric.device, workers=task.config.data.workers
        )
        feed = row_batches(data, taken, longest=_EVAL_BATCH)
        for rows, batch in zip(taken, feed, strict=True):
            numbers = torch.from_numpy(rows).to(fabric.device)
            found.append(task.collect(task.model, batch, numbers))
    counts = [len(share) for share in mine]
    arrays = {
        name: torch.cat([part[name][:count] for part, count in zip(found, counts, strict=True)]).cpu().numpy()
        for name in found[0]
    }
    parts = [(np.concatenate(mine), arrays)]
    if fabric.world_size > 1:
        parts = parts * fabric.world_size
        torch.distributed.all_gather_object(parts, (np.concatenate(mine), arrays))
    order = np.argsort(np.concatenate([rows for rows, _ in parts]))
    return task.evaluate({name: np.concatenate([every[name] for _, every in parts])[order] for name in arrays})
