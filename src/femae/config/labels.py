"""The option `--labels`: which label people read first."""

from typing import Annotated

from pydantic import Field

from femae.types import LabelView

__all__ = ["LabelsOption"]

LabelsOption = Annotated[
    LabelView,
    Field(
        description="label to show: expression (none, an emotion or a compound), or compound (always one of the class "
        "set, the paper's rule); tables have both"
    ),
]
