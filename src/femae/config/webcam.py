"""Settings of `femae webcam`."""

import re
from pathlib import Path
from typing import Annotated

import tyro
from pydantic import Field, field_validator

from femae.config.base import Config
from femae.config.options import DebugOption, DeviceOption, LabelsOption, ThreadsOption, split_words
from femae.config.predict import FormatOption, LiveDetectConfig, LiveRuleConfig

__all__ = ["WebcamConfig"]


class WebcamConfig(Config):
    """A live window: boxes, ids, six bars and the expression of each face; old frames are dropped, never queued.

    Keys: r records table and film (again: stops), s saves a picture, space freezes, h shows help, q or Esc quits.
    """

    source: Annotated[str, tyro.conf.Positional] = Field(
        "", description="camera (number, name or /dev/video0), stream (rtsp://...) or film; default: the first camera"
    )
    realtime: bool = Field(False, description="play a film at its own speed and drop frames, as a camera does")
    size: str = Field("", description="picture size requested from the camera, such as 1280x720")
    rate: float | None = Field(None, gt=0, description="frames per second requested from the camera")
    record: bool = Field(False, description="record table and film from the start")
    headless: bool = Field(False, description="no window: record until the film ends, --seconds are over or Ctrl-C")
    seconds: float | None = Field(None, gt=0, description="stop after this many seconds of the source")
    out: Path = Field(Path("femae-out"), description="folder of recordings and pictures")
    format: FormatOption = "csv"
    labels: LabelsOption = "expression"
    model: Path | None = Field(None, description="a femae model (.onnx) instead of the one that ships")
    detect: Annotated[LiveDetectConfig, tyro.conf.OmitArgPrefixes] = LiveDetectConfig()
    rules: Annotated[LiveRuleConfig, tyro.conf.OmitArgPrefixes] = LiveRuleConfig()
    device: DeviceOption = "auto"
    threads: ThreadsOption = None
    debug: DebugOption = False

    @property
    def formats(self) -> tuple[str, ...]:
        """The requested table formats, in order, without duplicates."""
        return split_words(self.format)

    @field_validator("size")
    @classmethod
    def _check_size(cls, value: str) -> str:
        if value and not re.fullmatch(r"[1-9]\d{1,4}x[1-9]\d{1,4}", value):
            raise ValueError(f"'{value}' is not a picture size; expected width x height, as in 1280x720")
        return value
