"""Settings of `femae export`."""

from pathlib import Path
from typing import Annotated, Literal

import tyro
from pydantic import Field, model_validator

from femae.config.base import Config

__all__ = ["ExportConfig"]


class ExportConfig(Config):
    """A trained model or ensemble -> a file for `femae predict --model`, measured against the weights it came from."""

    weights: Annotated[Path, tyro.conf.Positional] = Field(
        description="a model.safetensors, or the folder of a run or an ensemble"
    )
    out: Path | None = Field(
        None, description="file to write; default: model.onnx, model.int8.onnx, model.xml ... beside the weights"
    )
    format: Literal["onnx", "openvino"] = Field("onnx", description="openvino: an .xml file and its .bin")
    precision: Literal["fp32", "int8"] = Field("fp32", description="int8: needs --calibration")
    calibration: Path | None = Field(
        None, description="folder of shards with faces like those the model will see; parity is measured on them too"
    )
    calibration_size: int = Field(768, ge=16, description="crops drawn from it")
    labels: tuple[Path, ...] = Field((), description="folders of shards with labels, to measure the F1 lost")
    label_sources: tuple[str, ...] = Field((), description="of --labels only these data sets; default: all")
    label_splits: tuple[str, ...] = Field((), description="of --labels only these splits; default: all but train")
    balance: float = Field(0.0, ge=0, le=1, description="share of the training set's imbalance to undo")
    class_counts: tuple[float, ...] = Field(
        (), description="for --balance: how often the six emotions were seen in training, in the order of the outputs"
    )
    name: str | None = Field(None, description="of the model, as the file will say; default: the weights' own")
    version: str | None = Field(None, description="as name")
    description: str | None = Field(None, description="what it was trained on; default: the weights' own words")
    terms: str | None = Field(None, description="terms of use; default: the weights' own words")
    quiet: bool = Field(False, description="no progress and no summary")
    debug: bool = Field(False, description="show the traceback of an error")

    @model_validator(mode="after")
    def _complete(self) -> "ExportConfig":
        suffix = ".onnx" if self.format == "onnx" else ".xml"
        if self.out is not None and self.out.suffix != suffix:
            raise ValueError(f"out is {self.out}, but a file of the format {self.format} ends in {suffix}")
        if self.precision == "int8" and self.calibration is None:
            raise ValueError("int8 needs --calibration, a folder of shards with real faces (`femae data prepare`)")
        if bool(self.balance) != bool(self.class_counts):
            raise ValueError("balance and class-counts go together: give both or none")
        if self.class_counts and (len(self.class_counts) != 6 or min(self.class_counts) <= 0):
            raise ValueError("class-counts takes six numbers above 0, one per emotion")
        return self
