"""Recipes: YAML files for `femae train`, read into typed settings.

The key `stage` selects the type. `extends: other.yaml` starts from another recipe of the same stage, whose settings
this one overrides. `kfold`, `ablation` and `chain` recipes contain other recipes, by paths relative to their own.
"""

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from femae.config.base import Config
from femae.config.train import AuConfig, EmotionConfig, PretrainConfig
from femae.errors import ConfigError

__all__ = [
    "AblationConfig",
    "AblationRowConfig",
    "ChainConfig",
    "KfoldConfig",
    "Recipe",
    "Stage",
    "load_recipe",
    "merge",
    "override",
    "read_yaml",
]

Stage = PretrainConfig | AuConfig | EmotionConfig


class KfoldConfig(Config):
    """One emotion recipe, trained once per fold; out-of-fold scores, Table 1, an ensemble (paper, section 4.4)."""

    stage: Literal["kfold"] = "kfold"
    emotion: EmotionConfig = EmotionConfig()
    num_folds: int = Field(5, ge=2)
    calibrate: bool = Field(True, description="fit the ensemble's calibration on the out-of-fold scores")


class AblationRowConfig(Config):
    """A row of Table 2: its name, and what it changes in the recipe."""

    name: str = Field(min_length=1)
    changes: dict[str, Any] = Field({}, description="dotted settings of the emotion stage and their values")
    components: dict[str, bool] = Field({}, description="columns of Table 2 and whether this row has them")


class AblationConfig(Config):
    """Rows of one emotion recipe with components on and off, each over several seeds (paper, Table 2)."""

    stage: Literal["ablation"] = "ablation"
    emotion: EmotionConfig = EmotionConfig()
    rows: tuple[AblationRowConfig, ...] = ()
    seeds: tuple[int, ...] = (0, 1, 2)

    @model_validator(mode="after")
    def _check_rows(self) -> "AblationConfig":
        names = [row.name for row in self.rows]
        if len(set(names)) < len(names) or any("/" in name or name.startswith(".") for name in names):
            raise ValueError("each row needs a name of its own, without '/' (it becomes a folder)")
        for row in self.rows:
            self.row(row, seed=0)
        return self

    def row(self, row: AblationRowConfig, *, seed: int) -> EmotionConfig:
        """The settings of one run of a row. Raises ConfigError for unknown settings."""
        return EmotionConfig(**_apply_dotted(self.emotion.model_dump(), row.changes | {"run.seed": seed}))


class ChainStep(Config):
    """One stage of a chain; its run's folder has its name."""

    name: str = Field(min_length=1)
    recipe: Annotated[Stage | KfoldConfig, Field(discriminator="stage")]


class ChainConfig(Config):
    """Stages in sequence, each from the weights of the previous one (paper, figure 1)."""

    stage: Literal["chain"] = "chain"
    scale: float = Field(
        1.0,
        gt=0,
        le=1,
        description="below 1: a trial with this share of the epochs, and small networks, steps and sets",
    )
    steps: tuple[ChainStep, ...] = Field(min_length=1)


def _apply_dotted(settings: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Change nested settings in place by dotted names; returns them. Raises ConfigError for an unknown group."""
    for dotted, value in changes.items():
        group = settings
        *path, last = dotted.split(".")
        for depth, part in enumerate(path):
            if not isinstance(group.get(part), dict):
                groups = [name for name, inner in group.items() if isinstance(inner, dict)]
                near = difflib.get_close_matches(part, groups, n=1)
                guess = ".".join([*path[:depth], *near, *path[depth + 1 :], last])
                raise ConfigError(f"there is no setting '{dotted}'" + (f"; did you mean '{guess}'?" if near else ""))
            group = group[part]
        group[last] = value
    return settings


Recipe = PretrainConfig | AuConfig | EmotionConfig | KfoldConfig | AblationConfig | ChainConfig
_TYPES: dict[str, type[Recipe]] = {
    "pretrain": PretrainConfig,
    "au": AuConfig,
    "emotion": EmotionConfig,
    "kfold": KfoldConfig,
    "ablation": AblationConfig,
    "chain": ChainConfig,
}


def merge(base: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """A copy of the nested settings `base` with those of `overrides`."""
    merged = dict(base)
    for key, value in overrides.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def read_yaml(path: Path) -> dict[str, Any]:
    """A recipe's settings, merged with the recipe it extends. Raises ConfigError for anything but a YAML mapping."""
    import yaml

    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"there is no recipe {path}: check the path") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} cannot be read as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(settings, dict):
        raise ConfigError(f"{path} holds no settings; expected lines such as `stage: emotion`")
    _check_keys(settings, path)
    extends = settings.pop("extends", None)
    settings = _load_nested(settings, path.parent)
    return merge(read_yaml(path.parent / extends), settings) if extends else settings


def _check_keys(settings: Any, path: Path) -> None:
    """Raise ConfigError for keys that are not strings: YAML reads on, off, yes and no as booleans."""
    if isinstance(settings, dict):
        invalid = [key for key in settings if not isinstance(key, str)]
        if invalid:
            raise ConfigError(
                f"{path}: {invalid[0]!r} is not the name of a setting; put names that YAML reads as something else in "
                f"quotes"
            )
    for inner in settings.values() if isinstance(settings, dict) else settings if isinstance(settings, list) else ():
        _check_keys(inner, path)


def _load_nested(settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Replace the paths of recipes in kfold, ablation and chain by the recipes' settings."""
    settings = dict(settings)
    if isinstance(settings.get("emotion"), str):
        settings["emotion"] = read_yaml(folder / settings["emotion"])
    if isinstance(settings.get("emotion"), dict) and isinstance(settings["emotion"].get("extends"), str):
        changes = dict(settings["emotion"])
        settings["emotion"] = merge(read_yaml(folder / changes.pop("extends")), changes)
    steps = settings.get("steps")
    if isinstance(steps, list):
        settings["steps"] = [_load_step(step, folder) for step in steps]
    return settings


def _load_step(step: Any, folder: Path) -> Any:
    if not isinstance(step, dict):
        return step
    step = dict(step)
    recipe = step.get("recipe")
    if isinstance(recipe, str):
        step["recipe"] = read_yaml(folder / recipe)
    elif isinstance(recipe, dict):
        recipe = dict(recipe)
        extends = recipe.pop("extends", None)
        inner = _load_nested(recipe, folder)
        step["recipe"] = merge(read_yaml(folder / extends), inner) if extends else inner
    return step


def override(recipe: Recipe, changes: dict[str, Any]) -> Recipe:
    """The recipe with dotted settings changed, e.g. {"optim.lr": 1e-4}; in a chain, {"STEP.optim.lr": ...}.

    Raises ConfigError for a wrong value and for an unknown setting, with the nearest known one.
    """
    settings = recipe.model_dump()
    if isinstance(recipe, ChainConfig):
        by_name = {step["name"]: step["recipe"] for step in settings["steps"]} | {"scale": settings["scale"]}
        _apply_dotted(by_name, changes)
        settings["scale"] = by_name["scale"]
        for step in settings["steps"]:
            step["recipe"] = by_name[step["name"]]
    else:
        _apply_dotted(settings, changes)
    return type(recipe)(**settings)


def load_recipe(path: Path) -> Recipe:
    """Read a recipe into the type that its key `stage` names. Raises ConfigError with one sentence per error."""
    settings = read_yaml(path)
    stage = settings.get("stage")
    if stage not in _TYPES:
        raise ConfigError(f"{path} needs a line `stage:` with one of {', '.join(_TYPES)}; it has {stage!r}")
    try:
        return _TYPES[stage](**settings)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
