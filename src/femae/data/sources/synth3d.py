"""Rendered heads with exact intensities of action units, kept in atlases of 96 x 96 gray crops.

`labels.csv`: index, atlas, cell, compound, one column per action unit (0..1), yaw, pitch, roll, split. A head with a
compound sets its two emotions; of a random mix of action units nothing is known of the emotions. Each head is a group.
Columns are named by FACS but for two: `AU11` raises the upper lip, which is AU10, and `AU10` pushes it up from within
(ARKit's mouthShrugUpper), which is no unit of its own and is left unknown.
"""

import re
from pathlib import Path

from femae.data.samples import AtlasCell, RawSample
from femae.data.sources.atlas import AtlasSource
from femae.data.sources.base import LeftOut
from femae.data.targets import label_targets, unknown_targets
from femae.errors import LabelError
from femae.labels import action_unit_name

__all__ = ["Synth3dSource"]

_CELL = 96
_COLUMNS = 24
_UNIT = re.compile(r"AU\d+")
_RENAMED = {"AU10": None, "AU11": "AU10"}  # column -> unit of FACS


class Synth3dSource(AtlasSource):
    """Reads the atlases of rendered heads."""

    def __init__(self, folder: Path, *, name: str = "synth3d") -> None:
        """Raises DataError when labels.csv or a column is not there."""
        super().__init__(
            folder, name=name, file="syn_{:02d}.jpg", size=_CELL, columns=_COLUMNS, needs=("compound", "AU1")
        )

    def _labelled(self, row: dict[str, str], picture: AtlasCell, key: str) -> RawSample:
        try:
            label = label_targets(row["compound"]) if row["compound"] else unknown_targets()
            named = {name: _RENAMED.get(name, name) for name in row if _UNIT.fullmatch(name) and row[name]}
            units = {action_unit_name(unit): float(row[name]) for name, unit in named.items() if unit is not None}
        except LabelError:
            raise LeftOut("label is not a known word") from None
        except ValueError:
            raise LeftOut("action unit is not a number") from None
        if not all(0 <= value <= 1 for value in units.values()):
            raise LeftOut("action unit is not in 0..1")
        return RawSample(
            key=key,
            picture=picture,
            group=f"synth3d/{key}",
            split=row.get("split", ""),
            class_name=label.class_name,
            targets=label.targets,
            mask=label.mask,
            action_units=units,
            is_crop=True,
        )
