"""`femae evaluate`: measures, prints the figures and writes the result files, each under a temporary name first."""

import csv
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from femae import __version__
from femae.compound.rules import parse_weights
from femae.config.evaluate import EvaluateConfig
from femae.errors import ConfigError, DataError, OutputError
from femae.evaluation.documents import as_json, csv_tables, markdown_report, show
from femae.evaluation.load import load_samples, load_table
from femae.evaluation.measure import Evaluation, Measures, Settings, measure, subgroups
from femae.files import replacing
from femae.labels import EMOTIONS, parse_class_set
from femae.metrics.tables import ablation_table, kfold_table, table3
from femae.printing import print_lines

__all__ = ["Evaluation", "csv_bytes", "evaluate", "parse_thresholds", "run_evaluate", "write_file"]

_FOLDER = Path("femae-evaluation")


def parse_thresholds(text: str) -> npt.NDArray[np.float64]:
    """`0.5`, or `0.5,fear=0.3` -> f64[6] in the order of EMOTIONS. Raises ConfigError."""
    out = np.full(len(EMOTIONS), 0.5)
    for part in text.split(","):
        name, equals, number = (piece.strip() for piece in part.rpartition("="))
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if not 0 <= value <= 1:
            raise ConfigError(
                f"'{part.strip()}' is not a threshold: expected a number from 0 to 1, or one per "
                f"emotion such as fear=0.3"
            )
        if equals and name not in EMOTIONS:
            raise ConfigError(f"there is no emotion '{name}' for a threshold; the six are {', '.join(EMOTIONS)}")
        out[EMOTIONS.index(name) if equals else slice(None)] = value
    return out


def evaluate(config: EvaluateConfig) -> Evaluation:
    """Measure without writing anything. Raises FemaeError."""
    compounds = parse_class_set(config.classes)
    settings = Settings(
        compounds=compounds,
        rule=config.rule,
        weights=parse_weights(config.weights) if config.weights else None,
        thresholds=parse_thresholds(config.threshold),
        min_present=config.present,
        num_bins=config.bins,
        num_draws=config.bootstrap,
        seed=config.seed,
    )
    table, model = load_table(config)
    samples = load_samples(config, table, compounds=compounds)
    measures = measure(samples, settings)
    missed = measures.num_found < measures.num
    return Evaluation(
        samples=samples,
        measures=measures,
        found_only=measure(samples.select(samples.found), settings) if missed and samples.found.any() else None,
        by={
            column: subgroups(samples, column=column, settings=settings, num_quantiles=config.quantiles)
            for column in config.by
        },
        model=model,
        scores=table if model else None,
    )


def run_evaluate(config: EvaluateConfig) -> int:
    """Print and write the requested results; returns 0. Raises FemaeError."""
    if config.table in (1, 2):
        text = kfold_table(config.input) if config.table == 1 else ablation_table(config.input)
        print_lines(text.splitlines())
        if config.out is not None:
            write_file(config.out / f"table{config.table}.md", text.encode())
        return 0
    found = evaluate(config)
    tables = _table3(config, found.measures) if config.table == 3 else ""
    out = config.out or _FOLDER
    _write(found, config, out=out, table=tables)
    if not config.quiet:
        show(found.measures, by=found.by, notes=_notes(found), out=out)
    if tables:
        print_lines(tables.splitlines())
    return 0


def _table3(config: EvaluateConfig, measures: Measures) -> str:
    if config.classes != "abaw":
        raise ConfigError("Table 3 is over the seven classes of the challenge: leave --classes at abaw")
    if measures.compound is None:
        raise DataError(f"{config.labels or config.input} has no compound labels, which Table 3 needs")
    return table3(measures.compound.macro_f1, name=config.name)


def _facts(found: Evaluation, config: EvaluateConfig) -> dict[str, str]:
    facts = {"input": config.input.name, "model": found.model, "labels": config.labels.name if config.labels else ""}
    facts |= {"split": config.split, "rule": config.rule + (f" ({config.weights})" if config.weights else "")}
    missed = found.measures.num - found.measures.num_found
    facts |= {"samples": f"{found.measures.num:,}, of which {missed:,} without a prediction", "femae": __version__}
    if config.bootstrap:
        facts["intervals"] = f"95 %, {config.bootstrap:,} draws of groups, seed {config.seed}"
    return {name: value for name, value in facts.items() if value}


def _notes(found: Evaluation) -> list[str]:
    return [*found.samples.notes, *found.samples.labels.notes]


def _write(found: Evaluation, config: EvaluateConfig, *, out: Path, table: str) -> None:
    """Write all files, metrics.json last, so that its presence means that the set is complete."""
    drawn = _figures(found, config) if config.figures else {}
    for name, data in drawn.items():
        write_file(out / name, data)
    for name, rows in csv_tables(found.measures, found.by).items():
        write_file(out / f"{name}.csv", csv_bytes(rows))
    if found.scores is not None:
        sink = pa.BufferOutputStream()
        pq.write_table(found.scores, sink, compression="zstd")
        write_file(out / "scores.parquet", sink.getvalue().to_pybytes())
    if table:
        write_file(out / "table3.md", table.encode())
    page = markdown_report(
        found,
        title=f"Evaluation of {config.name}",
        facts=_facts(found, config),
        notes=_notes(found),
        figures=[name for name in drawn if name.endswith(".svg")],
    )
    write_file(out / "report.md", page.encode("utf-8", "backslashreplace"))
    content = {
        "femae": __version__,
        "settings": config.model_dump(mode="json", exclude={"debug", "quiet", "threads", "out"}),
        "model": found.model or None,
        "notes": _notes(found),
        **as_json(found.measures),
        "found_only": as_json(found.found_only) if found.found_only is not None else None,
        "by": {name: {part.name: as_json(part.measures) for part in parts} for name, parts in found.by.items()},
    }
    write_file(
        out / "metrics.json", (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "replace")
    )


def _figures(found: Evaluation, config: EvaluateConfig) -> dict[str, bytes]:
    """The pictures: file name -> content."""
    from femae.evaluation.plots import confusion_figure, draw, reliability_figure

    figures = {}
    for name, labels in (("reliability", found.measures.labels), ("reliability-action-units", found.measures.units)):
        if labels is not None and labels.bins.count.any():
            figures[name] = reliability_figure(labels.names, labels.bins, title=f"Reliability of {config.name}")
    if found.measures.expression_rates is not None:
        bins = found.measures.expression_rates.bins
        figures["reliability-expression"] = reliability_figure(["expression"], bins, title=f"Label of {config.name}")
    for name in ("emotions", "compound", "expression"):
        classes = getattr(found.measures, name)
        if classes is not None:
            figures[f"confusion-{name}"] = confusion_figure(classes, title=f"{config.name}, {classes.num} samples")
    return {f"{name}.{kind}": data for name, figure in figures.items() for kind, data in draw(figure).items()}


def csv_bytes(rows: Sequence[Sequence[str]]) -> bytes:
    """Rows as CSV, UTF-8."""
    target = io.StringIO()
    csv.writer(target, lineterminator="\n").writerows(rows)
    return target.getvalue().encode("utf-8", "backslashreplace")


def write_file(path: Path, data: bytes) -> None:
    """Write a file atomically, replacing one of that name. Raises OutputError and leaves nothing behind then."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial:
            partial.write_bytes(data)
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: {error.strerror or error}; choose another folder with --out"
        ) from error
