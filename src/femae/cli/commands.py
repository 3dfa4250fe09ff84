"""The configuration class of each command, and the function that runs it."""

from functools import partial
from pathlib import Path
from typing import Any

from femae.config.predict import DemoConfig, ModelsConfig, PredictConfig
from femae.config.report import ReportConfig

__all__ = [
    "config_type",
    "run_app",
    "run_data",
    "run_demo",
    "run_evaluate",
    "run_export",
    "run_models",
    "run_predict",
    "run_report",
    "run_webcam",
]


def config_type(command: str) -> Any:
    """The configuration class (or union of them) that tyro fills from the options of `command`."""
    if command == "app":
        from femae.config.app import AppConfig

        return AppConfig
    if command == "webcam":
        from femae.config.webcam import WebcamConfig

        return WebcamConfig
    if command == "data":
        from femae.config.data import DataCommand

        return DataCommand
    if command == "abaw":
        from femae.config.abaw import AbawCommand

        return AbawCommand
    if command == "export":
        from femae.config.export import ExportConfig

        return ExportConfig
    if command == "evaluate":
        from femae.config.evaluate import EvaluateConfig

        return EvaluateConfig
    return {"predict": PredictConfig, "demo": DemoConfig, "models": ModelsConfig, "report": ReportConfig}[command]


def run_predict(config: PredictConfig) -> int:
    from femae.inference.run import run_predict as run

    if not config.report:
        return run(config)
    from femae.report.after_predict import report_outputs
    from femae.report.parts.page import require_report

    require_report()  # before the long run
    return run(config, finished=partial(report_outputs, labels=config.labels))


def run_demo(config: DemoConfig) -> int:
    from femae.shipped import demo_inputs

    predict = PredictConfig(inputs=demo_inputs(), out=config.out, video=config.video, debug=config.debug)
    return run_predict(predict)


def run_models(config: ModelsConfig) -> int:
    from femae.inference.models import print_models

    return print_models(config)


def run_data(command: Any) -> int:
    from femae.cli.data import run_data as run

    return run(command)


def run_abaw(command: Any) -> int:
    """Run one subcommand. Returns 0, or 1 for a damaged film or faults that `validate` found. Raises FemaeError."""
    from femae.config.abaw import ScoreConfig, ValidateConfig, WriteConfig

    if isinstance(command, WriteConfig):
        from femae.abaw.write import run_write

        return run_write(command)
    if isinstance(command, ValidateConfig):
        from femae.abaw.check import run_validate

        return run_validate(command)
    assert isinstance(command, ScoreConfig)
    from femae.abaw.check import run_score

    return run_score(command)


def run_evaluate(config: Any) -> int:
    from femae.evaluation.run import run_evaluate as run

    return run(config)


def run_export(config: Any) -> int:
    from femae.export.run import run_export as run

    return run(config)


def run_report(config: ReportConfig) -> int:
    from femae.report.run import run_report as run

    return run(config)


def run_app(config: Any) -> int:
    from femae.app.server import run_app as run

    return run(config, make_report=_write_app_report)


def _write_app_report(table: Any, *, subject: Any, out: Any, title: str, labels: Any, advance: Any) -> None:
    from femae.report.film.page import write_video_report
    from femae.report.parts.page import PageOptions
    from femae.report.pictures import write_pictures_report

    options = PageOptions(title=title, labels=labels)
    if isinstance(subject, Path):
        write_video_report(table, video=subject, out=out, options=options, advance=advance)
    else:
        names = {path.name: name for path, name in subject.items()}
        write_pictures_report(table, out=out, pictures=list(subject), names=names, options=options)


def run_webcam(config: Any) -> int:
    from femae.webcam.run import run_webcam as run

    return run(config)
