"""Settings of `femae evaluate`: one type is configuration, flags and help."""

from pathlib import Path
from typing import Annotated, Literal

import tyro
from pydantic import Field

from femae.config.base import Config
from femae.config.options import (
    ClassesOption,
    DebugOption,
    EngineOption,
    QuietOption,
    RuleOption,
    WeightsOption,
)

__all__ = ["EvaluateConfig"]


class EvaluateConfig(Config):
    """Evaluate a model, or a table of predictions, against labels; or print the tables of the paper."""

    input: Annotated[Path, tyro.conf.Positional] = Field(
        description="a folder of shards, a table with six probabilities a row (scores or predictions: .csv, .parquet, "
        ".jsonl), or with --table 1 or 2 the folder of a k-fold or ablation run"
    )
    labels: Path | None = Field(
        None, description="table of labels, joined by file name and frame; default: the labels in the input"
    )
    model: Path | None = Field(
        None, description="model to run on shards (as `femae predict` takes them); default: the one that ships"
    )
    engine: EngineOption = None
    split: str = Field("", description="only this split; default: all")
    out: Path | None = Field(
        None, description="folder of the results; default: femae-evaluation (tables 1 and 2: print only)"
    )
    table: Literal[1, 2, 3] | None = Field(
        None, description="1: F1 per fold; 2: ablation; 3: compound macro-F1 beside the published teams"
    )
    name: str = Field("femae", description="what the model is called in Table 3 and in the report")
    rule: RuleOption = "sum"
    weights: WeightsOption = ""
    classes: ClassesOption = "abaw"
    compound_labels: Literal["auto", "words", "votes"] = Field(
        "auto",
        description="words: labels that name a compound; votes: the two strongest votes; auto: a word where there is "
        "one, else votes, where the table has no column of compounds",
    )
    label_order: str = Field(
        "", description="the data set whose numbering the labels follow, such as affectnet or abaw-compound"
    )
    key: str = Field("", description="column of the labels that names the picture or film; default: detected")
    group: str = Field("", description="column of persons or films for the intervals; default: detected")
    faces: Literal["largest", "max", "mean"] = Field(
        "largest",
        description="for several faces in one frame: the largest face, or the maximum or mean of their probabilities",
    )
    missing: Literal["wrong", "leave-out"] = Field(
        "wrong", description="labelled rows without a prediction: count as wrong, or leave out"
    )
    threshold: str = Field(
        "0.5",
        description="probability from which a label counts as given: one number, or per emotion as in 0.5,fear=0.3",
    )
    present: int = Field(3, ge=1, description="a class counts as present from this many samples on")
    bins: int = Field(15, ge=2, le=100, description="bins of the reliability figure and of ECE")
    bootstrap: int = Field(1000, ge=0, description="bootstrap draws of groups for the 95 %% intervals; 0: none")
    seed: int = Field(0, ge=0, description="seed of the bootstrap draws")
    by: tuple[str, ...] = Field((), description="columns to split by: texts by value, numbers by quantile")
    quantiles: int = Field(4, ge=2, le=20, description="number of groups for a column of numbers in --by")
    figures: bool = Field(True, description="draw reliability and confusion (SVG and PNG)")
    threads: int | None = Field(None, ge=1, description="threads of the model; default: one per core that may be used")
    quiet: QuietOption = False
    debug: DebugOption = False
