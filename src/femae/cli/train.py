"""`femae train RECIPE.yaml [--optim.lr 1e-4 ...]`: a recipe, settings that override it, one call."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel
from rich.console import Console
from rich.table import Table
from rich.text import Text

from femae.config.recipe import ChainConfig, Recipe, load_recipe, override
from femae.errors import ConfigError, MissingDependencyError

__all__ = ["TrainCommand", "parse_train", "run_train"]

_USAGE: Final = """usage: femae train RECIPE.yaml [--out FOLDER] [--SETTING VALUE ...] [--quiet] [--debug]

Train what a recipe describes: a stage (pretrain, au, emotion), folds, an ablation, or a chain of stages.
The same command resumes a run that was stopped. Under torchrun it uses every process.

  --out FOLDER       folder of the run; default: runs/NAME-OF-THE-RECIPE
  --SETTING VALUE    any setting of the recipe, e.g. --optim.lr 1e-4 --run.epochs 20 --data.folders a b
  --plan             train nothing: print parameters, arithmetic, memory and hours; --devices 8, --rate 3000 (pictures
                     a second on each device) and --pictures 2000000 (of an epoch) set what it assumes
  --quiet            no progress
  --debug            show the traceback of an error
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainCommand:
    """The command line of `femae train`, read."""

    recipe: Path | None
    out: Path | None = None
    changes: dict[str, Any] = field(default_factory=dict)  # dotted name -> value
    quiet: bool = False
    help: bool = False
    plan: dict[str, float] | None = None  # devices, rate, pictures, where they are given


def parse_train(arguments: Sequence[str]) -> TrainCommand:
    """Read the command line. Raises ConfigError when the recipe is missing or a value stands alone."""
    plain: list[str] = []
    names: dict[str, list[str]] = {}
    current: list[str] = plain
    for argument in arguments:
        if argument.startswith("--") and len(argument) > 2:
            name, equals, value = argument[2:].partition("=")
            current = names.setdefault(name, [])
            current.clear()
            if equals:
                current.append(value)
                current = plain
        elif argument == "-h":
            names["help"] = []
        else:
            current.append(argument)
    for flag in ("quiet", "debug", "help", "plan"):
        if flag in names:
            plain += names[flag]
    planned = _planned(names) if names.pop("plan", None) is not None else None
    out = names.pop("out", None)
    if out is not None and len(out) != 1:
        raise ConfigError("--out takes one folder")
    if len(plain) != 1 and "help" not in names:
        raise ConfigError(f"femae train takes one recipe, not {len(plain)}: femae train RECIPE.yaml; see --help")
    changes = {name.replace("-", "_"): _value(v) for name, v in names.items() if name not in ("quiet", "debug", "help")}
    return TrainCommand(
        recipe=Path(plain[0]) if plain else None,
        out=Path(out[0]) if out else None,
        changes=changes,
        quiet="quiet" in names,
        help="help" in names,
        plan=planned,
    )


def _planned(names: dict[str, list[str]]) -> dict[str, float]:
    """Take the numbers of --plan out of the command line. Raises ConfigError for what is no number above 0."""
    found: dict[str, float] = {}
    for name in ("devices", "rate", "pictures"):
        words = names.pop(name, None)
        if words is not None:
            value = _value(words)
            if not isinstance(value, int | float) or isinstance(value, bool) or value <= 0:
                raise ConfigError(f"--{name} takes one number above 0, not {' '.join(words) or 'nothing'}")
            found[name] = value if name == "rate" else int(value)
    return found


def _value(words: list[str]) -> Any:
    """The value of one setting: none said is true, several are a list, each read as YAML reads it."""
    import yaml

    def read(word: str) -> Any:
        try:
            value = yaml.safe_load(word)
        except yaml.YAMLError:
            return word
        if isinstance(value, str):
            try:
                return float(value)  # 1e-4 is a word to YAML
            except ValueError:
                return value
        return value

    if not words:
        return True
    values = [read(word) for word in words]
    return values[0] if len(values) == 1 else values


def run_train(command: TrainCommand) -> int:
    """Do it. Raises MissingDependencyError without the extra `train`, ConfigError for wrong settings."""
    try:
        import yaml  # noqa: F401
    except ImportError:
        raise MissingDependencyError("femae train needs more packages: pip install 'femae[train]'") from None
    if command.help or command.recipe is None:
        _print_help(load_recipe(command.recipe) if command.recipe else None)
        return 0
    recipe = load_recipe(command.recipe)
    if command.changes:
        recipe = override(recipe, command.changes)
    if command.plan is not None:
        return _print_plan(recipe, command.plan)
    try:
        from femae.training.loop.devices import first_process
        from femae.training.recipes.run import train
    except ModuleNotFoundError as error:
        raise _missing(error) from None
    out = command.out or Path("runs") / command.recipe.stem
    train(recipe, run=out, quiet=command.quiet)
    if first_process():
        Console(stderr=True, quiet=command.quiet).print(Text(f"-> {out}"))
    return 0


def _missing(error: ModuleNotFoundError) -> Exception:
    """The error as it is where the fault is our own, else what to install."""
    if (error.name or "").partition(".")[0] == "femae":
        return error
    return MissingDependencyError(f"femae train needs more packages ({error}): pip install 'femae[train]'")


def _print_plan(recipe: Recipe, numbers: dict[str, Any]) -> int:
    try:
        from femae.training.loop.cost import plan
    except ModuleNotFoundError as error:
        raise _missing(error) from None
    Console(soft_wrap=True).print(Text(plan(recipe, **numbers)))
    return 0


def _print_help(recipe: Recipe | None) -> None:
    from femae.config.train import AuConfig, EmotionConfig, PretrainConfig

    console = Console()
    console.print(Text(_USAGE))
    shown = [recipe] if recipe is not None else [PretrainConfig(), AuConfig(), EmotionConfig()]
    listed: set[str] = set()
    for settings in shown:
        table = Table.grid(padding=(0, 2))
        for name, value, about in _settings(settings, ""):
            if name not in listed:
                table.add_row(Text(f"--{name}", style="bold"), Text(str(value)), Text(about, style="dim"))
            if recipe is None:
                listed.add(name)
        console.print(Text(f"stage {type(settings).model_fields['stage'].default}:"))
        console.print(table)


def _settings(model: BaseModel, prefix: str) -> Iterator[tuple[str, Any, str]]:
    """(dotted name, value, what it is) of every setting."""
    if isinstance(model, ChainConfig):
        yield f"{prefix}scale", model.scale, ChainConfig.model_fields["scale"].description or ""
        for step in model.steps:
            yield from _settings(step.recipe, f"{step.name}.")
        return
    for name, field_ in type(model).model_fields.items():
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from _settings(value, f"{prefix}{name}.")
        elif name != "stage":
            yield f"{prefix}{name}", value, field_.description or ""
