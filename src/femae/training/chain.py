"""The stages one after the other, each from the weights of the one before (paper, figure 1)."""

from pathlib import Path

from femae.config.recipe import ChainConfig, ChainStep, KfoldConfig, merge
from femae.training.devices import first_process
from femae.training.run import train_stage
from femae.training.run_folder import RunFolder

__all__ = ["train_chain"]


def _from(step: ChainStep, weights: Path | None) -> ChainStep:
    """The step with the weights of the one before, where its recipe names none of its own."""
    settings = step.recipe.model_dump()
    stage = settings["emotion"] if isinstance(step.recipe, KfoldConfig) else settings
    if weights is not None and stage["init"]["weights"] is None:
        stage["init"] = merge(stage["init"], {"weights": weights})
    return ChainStep(name=step.name, recipe=type(step.recipe)(**settings))


def train_chain(config: ChainConfig, *, run: Path, quiet: bool = False) -> Path:
    """Train each step in a folder of its name; returns the last one. Steps that are done are not done again."""
    RunFolder(run, writes=first_process())
    before: Path | None = None
    for step in config.steps:
        ready, folder = _from(step, before), run / step.name
        if isinstance(ready.recipe, KfoldConfig):
            from femae.training.kfold import train_folds

            train_folds(ready.recipe, run=folder, quiet=quiet)
        else:
            train_stage(ready.recipe, run=folder, quiet=quiet)
        before = folder
    assert before is not None
    return before
