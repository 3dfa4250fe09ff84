"""Options that several commands share: types and help texts."""

import difflib
from collections.abc import Sequence
from typing import Annotated, Final, Literal, get_args

from pydantic import AfterValidator, Field

from femae.cluster import check_address
from femae.types import LabelView, Rule

__all__ = [
    "DEVICES",
    "ClassesOption",
    "ClusterOption",
    "DebugOption",
    "DeviceName",
    "DeviceOption",
    "EngineName",
    "EngineOption",
    "LabelsOption",
    "QuietOption",
    "RuleOption",
    "ThreadsOption",
    "WeightsOption",
    "check_words",
    "comma_list",
    "split_words",
]

DebugOption = Annotated[bool, Field(description="show the traceback of an error")]
QuietOption = Annotated[bool, Field(description="no progress and no summary")]
ThreadsOption = Annotated[int | None, Field(ge=1, description="worker threads; default: one per core that may be used")]

DeviceName = Literal["auto", "cpu", "cuda", "coreml", "directml", "openvino"]
DEVICES: Final[tuple[DeviceName, ...]] = get_args(DeviceName)
DeviceOption = Annotated[
    DeviceName,
    Field(
        description="device of the networks; auto: the best one installed. cuda, directml and openvino need another "
        "package of ONNX Runtime (the error names it)"
    ),
]
EngineName = Literal["onnx", "openvino", "torch"]
EngineOption = Annotated[EngineName | None, Field(description="runtime of the model; default: by the kind of its file")]

LabelsOption = Annotated[
    LabelView,
    Field(
        description="label to show: expression (none, an emotion or a compound), or compound (always one of the class "
        "set, the paper's rule); tables have both"
    ),
]
RuleOption = Annotated[
    Rule,
    Field(description="how the two probabilities of a compound are combined"),
]
WeightsOption = Annotated[str, Field(description="weights per emotion, as in fear=2,surprise=0.5; the others are 1")]
ClassesOption = Annotated[
    str, Field(description="abaw (7 classes), raf-db (11), or pairs of your own: fear+surprise,anger+disgust")
]


def _check_address(address: str | None) -> str | None:
    return address and check_address(address)


ClusterOption = Annotated[
    str | None,
    AfterValidator(_check_address),
    Field(description="run on a Ray cluster: local (this machine's cores), auto, HOST:PORT or ray://HOST:PORT"),
]


def comma_list(known: Sequence[str], *, kind: str, may_be_empty: bool = False) -> AfterValidator:
    """A validator for options with several comma-separated words, such as `--format csv,parquet`.

    kind: what a word is, with its article, for error messages.
    """

    def check(value: str) -> str:
        return value if may_be_empty and not value else check_words(value, known=known, kind=kind)

    return AfterValidator(check)


def check_words(value: str, *, known: Sequence[str], kind: str) -> str:
    """Returns a comma-separated value unchanged. Raises ValueError when one of its words is not known."""
    unknown = [part for part in value.split(",") if part.strip().lower() not in known]
    if unknown:
        near = difflib.get_close_matches(unknown[0].strip().lower(), known, n=1)
        hint = f"did you mean '{near[0]}'? " if near else ""
        raise ValueError(f"'{unknown[0]}' is not {kind}; {hint}expected one or more of {', '.join(known)}")
    return value


def split_words(value: str) -> tuple[str, ...]:
    """The words of a comma-separated value in lower case, in order, without duplicates."""
    return tuple(dict.fromkeys(part.strip().lower() for part in value.split(",") if part.strip()))
