"""`femae train`: trains a recipe into a run folder; the stages of a chain in sequence (paper, figure 1)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from femae.config.recipe import AblationConfig, ChainConfig, ChainStep, KfoldConfig, Recipe, merge
from femae.training.loop.devices import first_process
from femae.training.loop.run_folder import RunFolder
from femae.training.recipes.ablation import train_rows
from femae.training.recipes.kfold import train_folds
from femae.training.recipes.stage import train_stage

__all__ = [
    "train",
    "train_chain",
]

_NO_WEIGHTS: Final = "none"  # init.weights of a step that trains from scratch
_TRIAL_MODEL: Final = {"embed_dim": 48, "depth": 2, "num_heads": 3}  # upper limits for the network of a trial


def _resolve(step: ChainStep, previous: Path | None, done: Mapping[str, Path]) -> ChainStep:
    """The step with names of earlier steps replaced by their folders; init.weights defaults to `previous`."""
    settings = step.recipe.model_dump()
    stage = settings["emotion"] if isinstance(step.recipe, KfoldConfig) else settings
    weights = stage["init"]["weights"]
    named = None if str(weights) == _NO_WEIGHTS else done.get(str(weights), weights)
    stage["init"] = merge(stage["init"], {"weights": previous if weights is None else named})
    if "distill" in stage:
        teachers = tuple(done.get(str(teacher), teacher) for teacher in stage["distill"]["teachers"])
        stage["distill"] = merge(stage["distill"], {"teachers": teachers})
    return ChainStep(name=step.name, recipe=type(step.recipe)(**settings))


def _scale_down(step: ChainStep, scale: float) -> ChainStep:
    """A trial of the step: `scale` times its epochs, with a small network, small batches and small sets."""
    settings = step.recipe.model_dump()
    stage = settings["emotion"] if isinstance(step.recipe, KfoldConfig) else settings
    small = {name: min(stage["model"][name], largest) for name, largest in _TRIAL_MODEL.items()}
    stage["model"] = merge(stage["model"], small)
    if "decoder" in stage:
        stage["decoder"] = merge(stage["decoder"], {"embed_dim": 48, "depth": 1})
    run = stage["run"]
    epochs, batch_size = max(1, round(run["epochs"] * scale)), min(run["batch_size"], 32)
    changes = {"epochs": epochs, "batch_size": batch_size, "compile": False, "validate_every": 1}
    stage["run"] = merge(run, changes)
    stage["data"] = merge(stage["data"], {"limit": max(256, round(50_000 * scale))})
    return ChainStep(name=step.name, recipe=type(step.recipe)(**settings))


def train_chain(config: ChainConfig, *, run: Path, quiet: bool = False) -> Path:
    """Train each step in a folder of its name; returns the last folder. Finished steps are not trained again."""
    RunFolder(run, writes=first_process())
    previous: Path | None = None
    done: dict[str, Path] = {}
    for step in config.steps:
        resolved, folder = _resolve(step, previous, done), run / step.name
        if config.scale < 1:
            resolved = _scale_down(resolved, config.scale)
        train(resolved.recipe, run=folder, quiet=quiet)
        previous = done[step.name] = folder
    assert previous is not None
    return previous


def train(recipe: Recipe, *, run: Path, quiet: bool = False) -> None:
    """Train a recipe of any kind into a run folder; a run that was interrupted resumes."""
    if isinstance(recipe, KfoldConfig):
        train_folds(recipe, run=run, quiet=quiet)
    elif isinstance(recipe, AblationConfig):
        train_rows(recipe, run=run, quiet=quiet)
    elif isinstance(recipe, ChainConfig):
        train_chain(recipe, run=run, quiet=quiet)
    else:
        train_stage(recipe, run=run, quiet=quiet)
