"""`femae train`: a recipe to a run folder."""

import dataclasses
from pathlib import Path

from femae.config.recipe import AblationConfig, ChainConfig, KfoldConfig, Recipe, Stage
from femae.config.train import AuConfig, EmotionConfig, PretrainConfig
from femae.training.devices import make_fabric
from femae.training.fit import FitResult, fit
from femae.training.run_folder import RunFolder
from femae.training.task import Task

__all__ = ["make_task", "train", "train_stage"]


def make_task(config: Stage) -> Task:
    """What a stage is to the loop."""
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
    """One stage into one run folder; a folder of the same settings is gone on with."""
    import torch

    torch.compiler.reset()  # each run compiles its own networks; torch stops compiling after eight of one kind
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


def train(recipe: Recipe, *, run: Path, quiet: bool = False) -> None:
    """Whatever a recipe says."""
    if isinstance(recipe, KfoldConfig):
        from femae.training.kfold import train_folds

        train_folds(recipe, run=run, quiet=quiet)
    elif isinstance(recipe, AblationConfig):
        from femae.training.ablation import train_rows

        train_rows(recipe, run=run, quiet=quiet)
    elif isinstance(recipe, ChainConfig):
        from femae.training.chain import train_chain

        train_chain(recipe, run=run, quiet=quiet)
    else:
        train_stage(recipe, run=run, quiet=quiet)
