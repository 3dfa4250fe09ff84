"""The command `femae`: finds the subcommand, parses its options into a configuration with tyro, and runs it."""

import difflib
import os
import sys
from collections.abc import Callable, Sequence

from femae.errors import FemaeError

__all__ = ["main"]

_COMMANDS = {
    "predict": "films, pictures or folders of them -> compound expressions per frame, as a table",
    "demo": "the same on a clip that a package brings along",
    "webcam": "the same live, in a window, from a camera, a stream or a film",
    "app": "a page in your browser: drop a film, look at the result, download the table",
    "models": "the available models: size, training data, figures, terms",
    "report": "a table of predictions, or a training run -> a page to look at, or figures for print",
    "data": "any data set -> face crops in Parquet shards",
    "train": "a recipe -> a trained model: pretraining, action units, emotions, folds, ablation",
    "export": "trained weights or an ensemble -> ONNX or OpenVINO, in float or 8 bits, with the accuracy lost",
    "evaluate": "predictions or a model against labels: F1, calibration, confusion; the paper's tables",
    "abaw": "predictions -> files of the ABAW challenge (CE, EXPR, AU); their check and score",
}


def _help() -> str:
    width = max(map(len, _COMMANDS))
    lines = [f"  {name:<{width}}  {text}" for name, text in _COMMANDS.items()]
    return "\n".join(
        [
            "usage: femae COMMAND [OPTIONS]",
            "",
            "Compound facial expressions, frame by frame, from any video.",
            "",
            "commands:",
            *lines,
            "",
            "`femae COMMAND --help` lists the options of a command, `femae --version` shows the version.",
            "",
        ]
    )


def _parse(command: str, arguments: Sequence[str]) -> Callable[[], int]:
    """Parse the options of one command; returns a function that runs it. Raises SystemExit(2) on wrong usage."""
    if command == "train":  # its options depend on the recipe
        from femae.cli.train import parse_train, run_train

        training = parse_train(arguments)
        return lambda: run_train(training)
    import tyro

    from femae.cli import commands

    run, config_type = getattr(commands, f"run_{command}"), commands.config_type(command)
    config = tyro.cli(
        config_type, prog=f"femae {command}", args=list(arguments), config=(tyro.conf.FlagCreatePairsOff,)
    )
    return lambda: int(run(config))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit status: 0 done, 1 some inputs failed, 2 wrong usage, 130 interrupted."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        sys.stdout.write(_help())
        return 0 if arguments else 2
    if arguments[0] in ("-V", "--version"):
        from femae import __version__
        from femae.shipped import shipped_name

        sys.stdout.write(f"femae {__version__}, with the model {shipped_name()}\n")
        return 0
    command, rest = arguments[0], arguments[1:]
    if command not in _COMMANDS:
        near = difflib.get_close_matches(command, _COMMANDS, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"the commands are {', '.join(_COMMANDS)}"
        sys.stderr.write(f"femae: there is no command '{command}'; {hint}\n")
        return 2
    try:
        return _parse(command, rest)()
    except FemaeError as error:
        if "--debug" in rest:
            raise
        sys.stderr.write(f"femae: {error}\n")
        from femae.errors import InputError, OutputError

        return 1 if isinstance(error, InputError | OutputError) else 2
    except KeyboardInterrupt as error:
        for line in ("interrupted", *getattr(error, "__notes__", ())):
            sys.stderr.write(f"femae: {line}\n")
        return 130
    except BrokenPipeError:  # the reader of stdout has gone, as in `femae predict --help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
