"""`femae train`: a recipe to a run folder."""

from pathlib import Path

from femae.config.recipe import AblationConfig, ChainConfig, KfoldConfig, Recipe
from femae.training.recipes.ablation import train_rows
from femae.training.recipes.chain import train_chain
from femae.training.recipes.kfold import train_folds
from femae.training.recipes.stage import train_stage

__all__ = ["train"]


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
