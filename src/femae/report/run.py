"""`femae report`: a page per input, one page that compares several tables, or figures for print."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from femae.config.report import ReportConfig
from femae.errors import ConfigError, FemaeError, InputError
from femae.report.compare import is_one_film, write_conditions_report, write_models_report
from femae.report.film.page import write_video_report
from femae.report.parts.page import PageOptions, require_report
from femae.report.parts.tables import read_predictions
from femae.report.pictures import write_pictures_report
from femae.report.training_runs.page import write_run_report
from femae.video.discover import discover

__all__ = ["run_report"]

_Job = Callable[[], list[Path]]


def run_report(config: ReportConfig) -> int:
    """Write the requested files and print their paths; returns 0, or 1 if some inputs failed.

    Raises ConfigError for options that exclude each other, MissingDependencyError before any work.
    """
    folders = [path for path in config.inputs if path.is_dir()]
    tables = [path for path in config.inputs if not path.is_dir()]
    _check(config, num_tables=len(tables))
    jobs = _figure_jobs(config) if config.figures else _page_jobs(config, folders, tables)
    out, err = (
        Console(soft_wrap=True, highlight=False, quiet=config.quiet),
        Console(stderr=True, soft_wrap=True, highlight=False),
    )
    failed = 0
    for job in jobs:
        try:
            for path in job():
                out.print(f"  -> {path}", markup=False)
        except FemaeError as error:
            if config.debug or len(jobs) == 1:
                raise
            failed += 1
            err.print(f"femae: {error}", markup=False)
    return 1 if failed else 0


def _figure_jobs(config: ReportConfig) -> list[_Job]:
    from femae.report.figures import write_figures

    return [partial(write_figures, path, config=config) for path in config.inputs]


def _page_jobs(config: ReportConfig, folders: list[Path], tables: list[Path]) -> list[_Job]:
    """One page for each folder, one for all tables."""
    require_report()
    jobs: list[_Job] = [partial(_report_folder, folder, config) for folder in folders]
    if len(tables) == 1 and config.conditions is None:
        jobs.append(partial(_report_table, tables[0], config))
    elif tables:
        jobs.append(partial(_report_tables, tables, config))
    return jobs


def _check(config: ReportConfig, *, num_tables: int) -> None:
    for name in ("film", "pictures", "conditions"):
        path = getattr(config, name)
        if path is None:
            continue
        if not num_tables:
            raise ConfigError(f"--{name} applies to tables of predictions, not to training runs")
        if not path.exists():
            raise InputError(f"'{path}' does not exist: check the name after --{name}")
    if config.film is not None and (config.pictures is not None or config.conditions is not None):
        raise ConfigError("--film cannot be combined with --pictures or --conditions")


def _report_folder(folder: Path, config: ReportConfig) -> list[Path]:
    return [write_run_report(folder, out=config.out / f"{folder.resolve().name}.html")]


def _report_table(table: Path, config: ReportConfig) -> list[Path]:
    out = config.out / f"{table.stem}.html"
    options = PageOptions(max_mb=config.max_mb, labels=config.labels)
    if read_predictions(table).is_film:
        if config.pictures is not None:
            raise ConfigError(f"'{table}' is the table of a film: give --film instead of --pictures")
        with _film_progress(quiet=config.quiet) as advance:
            return [write_video_report(table, out=out, video=config.film, options=options, advance=advance)]
    if config.film is not None:
        raise ConfigError(f"'{table}' is a table of pictures: give --pictures instead of --film")
    paths: tuple[Path, ...] = ()
    if config.pictures is not None:
        paths = tuple(path for item in discover([str(config.pictures)]) for path in item.paths)
    return [write_pictures_report(table, out=out, pictures=paths, options=options)]


def _report_tables(tables: list[Path], config: ReportConfig) -> list[Path]:
    if config.conditions is None and is_one_film([read_predictions(table) for table in tables]):
        out = config.out / f"{'-'.join(dict.fromkeys(table.stem for table in tables))[:100]}.compared.html"
        with _film_progress(quiet=config.quiet) as advance:
            return [
                write_models_report(
                    tables, out=out, video=config.film, max_mb=config.max_mb, labels=config.labels, advance=advance
                )
            ]
    if config.film is not None:
        raise ConfigError("--film needs tables of one film; these are of several")
    out = config.out / "comparison.html"
    return [write_conditions_report(tables, out=out, conditions=config.conditions, labels=config.labels)]


@contextmanager
def _film_progress(*, quiet: bool) -> Iterator[Callable[[], None]]:
    """Yields the callback to call after each frame; shows a progress bar on a terminal."""
    if quiet or not sys.stderr.isatty():
        yield lambda: None
        return
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("film", total=None)
        yield lambda: progress.update(task, advance=1)
