"""`femae train`: a recipe to a run folder; a chain's stages one after the other (paper, figure 1)."""

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

_NOTHING: Final = "none"  # init.weights of a step that starts anew
_TRIAL: Final = {"embed_dim": 48, "depth": 2, "num_heads": 3}  # the largest network of a trial


def _from(step: ChainStep, before: Path | None, done: Mapping[str, Path]) -> ChainStep:
    """The step with folders in place of the names of earlier steps; without init.weights it goes on from `before`."""
    settings = step.recipe.model_dump()
    stage = settings["emotion"] if isinstance(step.recipe, KfoldConfig) else settings
    weights = stage["init"]["weights"]
    start = before if weights is None else None if str(weights) == _NOTHING else done.get(str(weights), weights)
    stage["init"] = merge(stage["init"], {"weights": start})
    if "distill" in stage:
        teachers = tuple(done.get(str(teacher), teacher) for teacher in stage["distill"]["teachers"])
        stage["distill"] = merge(stage["distill"], {"teachers": teachers})
    return ChainStep(name=step.name, recipe=type(step.recipe)(**settings))


def _scaled(step: ChainStep, scale: float) -> ChainStep:
    """A trial of the step: so small a share of its epochs, and its network, steps and sets made small."""
    settings = step.recipe.model_dump()
    stage = settings["emotion"] if isinstance(step.recipe, KfoldConfig) else settings
    small = {name: min(stage["model"][name], largest) for name, largest in _TRIAL.items()}
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
    """Train each step in a folder of its name; returns the last one. Steps that are done are not done again."""
    RunFolder(run, writes=first_process())
    before: Path | None = None
    done: dict[str, Path] = {}
    for step in config.steps:
        ready, folder = _from(step, before, done), run / step.name
        if config.scale < 1:
            ready = _scaled(ready, config.scale)
        if isinstance(ready.recipe, KfoldConfig):
            train_folds(ready.recipe, run=folder, quiet=quiet)
        else:
            train_stage(ready.recipe, run=folder, quiet=quiet)
        before = done[step.name] = folder
    assert before is not None
    return before


def train(recipe: Recipe, *, run: Path, quiet: bool = False) -> None:
    """Whatever a recipe says."""
    if isinstance(recipe, KfoldConfig):
        train_folds(recipe, run=run, quiet=quiet)
    elif isinstance(recipe, AblationConfig):
        train_rows(recipe, run=run, quiet=quiet)
    elif isinstance(recipe, ChainConfig):
        train_chain(recipe, run=run, quiet=quiet)
    else:
        train_stage(recipe, run=run, quiet=quiet)
