"""Faces of LFW with one weak expression label each, kept in atlases of 96 x 96 gray crops.

`labels.csv`: index, atlas, cell, name, emotion, person, annotator, split. The person is the group.
"""

from pathlib import Path

from femae.data.samples import AtlasCell, RawSample
from femae.data.sources.atlas import AtlasSource
from femae.data.sources.base import LeftOut
from femae.data.sources.files import key_of
from femae.data.targets import label_targets
from femae.errors import LabelError

__all__ = ["LfwSource"]

_CELL = 96
_COLUMNS = 24


class LfwSource(AtlasSource):
    """Reads the atlases of LFW."""

    def __init__(self, folder: Path, *, keep_unlabelled: bool = False, name: str = "lfw") -> None:
        """Raises DataError when labels.csv or a column is not there."""
        super().__init__(
            folder,
            name=name,
            file="lfw_{:02d}.jpg",
            size=_CELL,
            columns=_COLUMNS,
            needs=("name", "emotion", "person"),
            keep_unlabelled=keep_unlabelled,
        )

    def _labelled(self, row: dict[str, str], picture: AtlasCell, key: str) -> RawSample:
        try:
            label = label_targets(row["emotion"] or "unknown")
        except LabelError:
            raise LeftOut("label is not a known word") from None
        name = key_of(row["name"] or key)
        return RawSample(
            key=name,
            picture=picture,
            group=f"lfw/{key_of(row['person'] or name)}",
            split=row.get("split", ""),
            class_name=label.class_name,
            targets=label.targets,
            mask=label.mask,
            is_crop=True,
        )
