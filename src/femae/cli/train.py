"""`femae train RECIPE.yaml [--optim.lr 1e-4 ...]`: parses a recipe and overrides of its settings, and trains."""

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
    """The parsed command line of `femae train`."""

    recipe: Path | None  # None only with --help
    out: Path | None = None
    changes: dict[str, Any] = field(default_factory=dict)  # dotted name of a setting -> value
    quiet: bool = False
    help: bool = False
    plan: dict[str, float] | None = None  # with --plan: devices, rate and pictures, where given


def parse_train(arguments: Sequence[str]) -> TrainCommand:
    """Parse the command line. Raises ConfigError without exactly one recipe, or for a wrong --out or --plan."""
    positional: list[str] = []
    options: dict[str, list[str]] = {}
    current: list[str] = positional  # what the next argument without -- belongs to
    for argument in arguments:
        if argument.startswith("--") and len(argument) > 2:
            name, equals, value = argument[2:].partition("=")
            current = options.setdefault(name, [])
            current.clear()
            if equals:
                current.append(value)
                current = positional
        elif argument == "-h":
            options["help"] = []
        else:
            current.append(argument)
    for flag in ("quiet", "debug", "help", "plan"):
        if flag in options:
            positional += options[flag]
    plan = _pop_plan(options) if options.pop("plan", None) is not None else None
    out = options.pop("out", None)
    if out is not None and len(out) != 1:
        raise ConfigError("--out takes one folder")
    if len(positional) != 1 and "help" not in options:
        raise ConfigError(f"femae train takes one recipe, not {len(positional)}: femae train RECIPE.yaml; see --help")
    settings = {name: values for name, values in options.items() if name not in ("quiet", "debug", "help")}
    return TrainCommand(
        recipe=Path(positional[0]) if positional else None,
        out=Path(out[0]) if out else None,
        changes={name.replace("-", "_"): _parse_value(values) for name, values in settings.items()},
        quiet="quiet" in options,
        help="help" in options,
        plan=plan,
    )


def _pop_plan(options: dict[str, list[str]]) -> dict[str, float]:
    """Remove the options of --plan from `options` and return them. Raises ConfigError unless all are above 0."""
    plan: dict[str, float] = {}
    for name in ("devices", "rate", "pictures"):
        texts = options.pop(name, None)
        if texts is not None:
            value = _parse_value(texts)
            if not isinstance(value, int | float) or isinstance(value, bool) or value <= 0:
                raise ConfigError(f"--{name} takes one number above 0, not {' '.join(texts) or 'nothing'}")
            plan[name] = value if name == "rate" else int(value)
    return plan


def _parse_value(texts: list[str]) -> Any:
    """The value of an option from its arguments, each parsed as YAML: True for none, a list for several."""
    import yaml

    def parse(text: str) -> Any:
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            return text
        if isinstance(value, str):
            try:
                return float(value)  # YAML takes 1e-4 for a string
            except ValueError:
                return value
        return value

    if not texts:
        return True
    values = [parse(text) for text in texts]
    return values[0] if len(values) == 1 else values


def run_train(command: TrainCommand) -> int:
    """Train, or print help or the plan; returns 0.

    Raises MissingDependencyError without the extra `train`, ConfigError for wrong settings, and what training raises.
    """
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
        raise _missing_package(error) from None
    out = command.out or Path("runs") / command.recipe.stem
    train(recipe, run=out, quiet=command.quiet)
    if first_process():
        Console(stderr=True, quiet=command.quiet).print(Text(f"-> {out}"))
    return 0


def _missing_package(error: ModuleNotFoundError) -> Exception:
    """MissingDependencyError that says what to install; the error itself where a module of femae is missing."""
    if (error.name or "").partition(".")[0] == "femae":
        return error
    return MissingDependencyError(f"femae train needs more packages ({error}): pip install 'femae[train]'")


def _print_plan(recipe: Recipe, numbers: dict[str, Any]) -> int:
    try:
        from femae.training.loop.cost import plan
    except ModuleNotFoundError as error:
        raise _missing_package(error) from None
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
    """(dotted name, value, description) of every setting."""
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
