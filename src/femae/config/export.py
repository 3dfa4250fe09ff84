"""Settings of `femae export`."""

from pathlib import Path
from typing import Annotated, Final, Literal

import tyro
from pydantic import Field, model_validator

from femae.config.base import Config
from femae.config.options import DebugOption, QuietOption

__all__ = ["SUFFIXES", "ExportConfig"]

SUFFIXES: Final = {"onnx": ".onnx", "openvino": ".xml", "safetensors": ".safetensors"}


class ExportConfig(Config):
    """A trained model or ensemble -> a file for `femae predict --model`, measured against the weights it came from."""

    weights: Annotated[Path, tyro.conf.Positional] = Field(
        description="a model.safetensors, or the folder of a run or an ensemble"
    )
    out: Path | None = Field(
        None, description="file to write; default: model.onnx, model.int8.onnx, model.xml ... beside the weights"
    )
    format: Literal["onnx", "openvino", "safetensors"] = Field(
        "onnx", description="openvino: an .xml file and its .bin; safetensors: the weights, to pass on or to train from"
    )
    precision: Literal["fp32", "fp16", "int8"] = Field(
        "fp32", description="int8: needs --calibration; fp16: half the size, safetensors only"
    )
    part: Literal["model", "encoder"] = Field(
        "model", description="encoder: without heads or decoder, as a start for training; safetensors only"
    )
    mean_with: tuple[Path, ...] = Field(
        (),
        description="further weights of the same network, or states of its run (checkpoint-last.safetensors): the "
        "mean of all is written; safetensors only",
    )
    calibration: Path | None = Field(
        None, description="folder of shards with faces like those the model will see; also used to measure parity"
    )
    calibration_size: int = Field(768, ge=16, description="number of crops drawn from --calibration")
    labels: tuple[Path, ...] = Field((), description="folders of shards with labels, to measure the F1 lost")
    label_sources: tuple[str, ...] = Field((), description="use only these data sets of --labels; default: all")
    label_splits: tuple[str, ...] = Field((), description="use only these splits of --labels; default: all but train")
    balance: float = Field(0.0, ge=0, le=1, description="share of the training set's class imbalance to undo")
    class_counts: tuple[float, ...] = Field(
        (), description="for --balance: how often the six emotions were seen in training, in the order of the outputs"
    )
    temperature: float = Field(
        1.0,
        gt=0,
        description="temperature by which logits are divided, balance included: below 1 for an underconfident model",
    )
    expression_from: tuple[Path, ...] = Field(
        (),
        description="tables of scores of faces the weights were not trained on (scores.parquet of a fold, oof.parquet "
        "of a kfold run): the rule for the column expression is fitted to them",
    )
    units_from: tuple[Path, ...] = Field(
        (),
        description="tables of scores of faces that the action units were not trained on (scores.parquet of a run of "
        "the stage au): each unit's logit is shifted so that 0.5 is its threshold, and units below --least-unit-f1 "
        "are left out; safetensors only",
    )
    unit_sources: tuple[str, ...] = Field((), description="use only these data sets of --units-from; default: all")
    drop_units: tuple[str, ...] = Field((), description="units to leave out whatever their F1, such as AU07")
    least_unit_f1: float = Field(0.6, ge=0, le=1, description="F1 on --units-from below which a unit is left out")
    name: str | None = Field(None, description="name of the model, stored in the file; default: that of the weights")
    version: str | None = Field(None, description="as name")
    description: str | None = Field(None, description="what it was trained on; default: the description in the weights")
    terms: str | None = Field(None, description="terms of use; default: those of the weights")
    quiet: QuietOption = False
    debug: DebugOption = False

    @model_validator(mode="after")
    def _check_combinations(self) -> "ExportConfig":
        suffix = SUFFIXES[self.format]
        if self.out is not None and self.out.suffix != suffix:
            raise ValueError(f"out is {self.out}, but a file of the format {self.format} ends in {suffix}")
        is_safetensors = self.format == "safetensors"
        if (self.precision == "fp16" or self.part == "encoder") and not is_safetensors:
            raise ValueError("fp16 and part encoder need the format safetensors: add --format safetensors")
        if self.mean_with and not is_safetensors:
            raise ValueError("mean-with needs the format safetensors: write the mean first, then export that file")
        if self.units_from and (not is_safetensors or self.part == "encoder"):
            raise ValueError("units-from needs the format safetensors: write the weights first, then export that file")
        if is_safetensors and (self.precision == "int8" or self.calibration or self.labels):
            raise ValueError("safetensors holds the weights themselves: int8, calibration and labels do not apply")
        if self.precision == "int8" and self.calibration is None:
            raise ValueError("int8 needs --calibration, a folder of shards with real faces (`femae data prepare`)")
        if bool(self.balance) != bool(self.class_counts):
            raise ValueError("balance and class-counts go together: give both or none")
        if self.class_counts and (len(self.class_counts) != 6 or min(self.class_counts) <= 0):
            raise ValueError("class-counts takes six numbers above 0, one per emotion")
        return self
