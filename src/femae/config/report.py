"""Settings of `femae report`."""

from pathlib import Path
from typing import Annotated, Final

import tyro
from pydantic import Field

from femae.config.base import Config
from femae.config.options import DebugOption, LabelsOption, QuietOption, comma_list, split_words

__all__ = ["ReportConfig"]

_FORMATS: Final = ("pdf", "svg", "png")


class ReportConfig(Config):
    """Make a page from tables of predictions or from folders of training runs."""

    inputs: Annotated[tuple[Path, ...], tyro.conf.Positional] = Field(
        min_length=1,
        description="tables of `femae predict` (csv, parquet, jsonl), or folders of training runs, k-folds, ablations",
    )
    out: Path = Field(Path("femae-out"), description="folder of the pages")
    film: Path | None = Field(None, description="the film the table was made from, to show and cut pictures from")
    pictures: Path | None = Field(None, description="the folder of pictures the table was made from")
    conditions: Path | None = Field(
        None, description="compare groups of films: a CSV with the columns source and condition"
    )
    labels: LabelsOption = "expression"
    figures: bool = Field(False, description="write figures for print instead of a page")
    format: Annotated[str, comma_list(_FORMATS, kind="a figure format")] = Field(
        "pdf", description="formats of the figures, separated by commas: pdf, svg, png"
    )
    max_mb: float = Field(
        24.0, gt=0, description="largest size of a page, millions of bytes; the film is encoded to fit"
    )
    quiet: QuietOption = False
    debug: DebugOption = False

    @property
    def formats(self) -> tuple[str, ...]:
        """The requested figure formats, in order, without duplicates."""
        return split_words(self.format)
