"""One stage of training into one run folder (paper, figure 1)."""

import dataclasses
from pathlib import Path

from femae.config.recipe import Stage
from femae.config.train import AuConfig, EmotionConfig, PretrainConfig
from femae.training.loop.devices import make_fabric
from femae.training.loop.fit import FitResult, fit
from femae.training.loop.run_folder import RunFolder
from femae.training.loop.task import Task

__all__ = ["make_task", "train_stage"]


def make_task(config: Stage) -> Task:
    """The task of a stage, with its data and its initialised network."""
    if isinstance(config, PretrainConfig):
        from femae.training.tasks.pretrain import PretrainTask

        return PretrainTask(config)
    if isinstance(config, AuConfig):
        from femae.training.tasks.au import AuTask

        return AuTask(config)
    from femae.training.tasks.emotion import EmotionTask

    assert isinstance(config, EmotionConfig)
    return EmotionTask(config)


def train_stage(config: Stage, *, run: Path, quiet: bool = False) -> FitResult:
    """Train one stage into a run folder; a run with the same settings resumes."""
    import torch

    torch.compiler.reset()  # each run compiles its own networks; torch stops after eight recompilations
    fabric = make_fabric(config.run)
    torch.manual_seed(config.run.seed)
    task = make_task(config)
    folder = RunFolder(run, writes=fabric.global_rank == 0)
    start = getattr(task, "start", None)
    folder.describe(
        config,
        train=task.train_set,
        val=task.val_set,
        num_params=sum(param.numel() for param in task.model.parameters()),
        start=None if start is None else dataclasses.asdict(start),
    )
    if (prepare := getattr(task, "prepare", None)) is not None:
        prepare(device=fabric.device, folder=folder.path, writes=fabric.global_rank == 0)
        fabric.barrier()
    return fit(task, fabric=fabric, folder=folder, quiet=quiet)
