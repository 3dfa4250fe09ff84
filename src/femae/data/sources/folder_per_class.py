"""A folder per class, in any data set: `[train|val|test/]<class>/*.jpg`.

Class folders are named by an emotion, a compound or another expression in any usual spelling (`happy`, `Sad`,
`Fearfully_Surprised`, `fear+surprise`, `neutral`), or by numbers of a known order (`order="raf-db-basic"`).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from femae.data.samples import RawSample
from femae.data.sources.base import LeftOut, Source, require
from femae.data.sources.files import PICTURE_SUFFIXES, key_of, listed, picture_file
from femae.data.targets import label_targets
from femae.errors import ConfigError, LabelError
from femae.labels import LABEL_ORDERS, parse_label

__all__ = ["FolderPerClassSource", "label_order", "subject_pattern"]

_SPLITS: Final = {
    **dict.fromkeys(("train", "training", "train_set"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "val_set"), "val"),
    **dict.fromkeys(("test", "testing", "test_set"), "test"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class _Picture:
    path: Path
    label: str
    split: str


class FolderPerClassSource(Source[_Picture]):
    """Reads every picture below the class folders, at any depth."""

    def __init__(
        self,
        folder: Path,
        *,
        order: str = "",
        subject: str = "",
        crops: bool = False,
        keep_unlabelled: bool = False,
        name: str = "folder",
    ) -> None:
        """`order`: of class folders that are numbers, one of labels.LABEL_ORDERS. `crops`: pictures are face crops.

        `subject`: regular expression with one group that finds the subject in a picture's path, e.g. `(S\\d+)_`;
        without it each picture is a group. Raises DataError when no folder is named by a class, ConfigError for an
        unknown order or a wrong expression.
        """
        super().__init__(name=name, keep_unlabelled=keep_unlabelled)
        self._folder, self._crops = folder, crops
        self._numbers, self._subject = label_order(order), subject_pattern(subject)
        inner = [child for child in listed(folder) if child.is_dir()]
        roots = [(child, _SPLITS[child.name.lower()]) for child in inner if child.name.lower() in _SPLITS]
        self._classes = [
            (child, split) for root, split in roots or [(folder, "")] for child in listed(root) if child.is_dir()
        ]
        require(
            any(self._label(child.name) for child, _ in self._classes),
            what=f"{folder} holds no folder named by a class",
            looked_for=["happiness/*.jpg", "train/happiness/*.jpg"],
            hint="name the folders by emotions or compounds, or give the order of their numbers "
            f"({', '.join(LABEL_ORDERS)})",
        )

    def _label(self, folder_name: str) -> str:
        """The class that a folder's name means; empty when it means none."""
        if folder_name.isdecimal():
            return self._numbers.get(int(folder_name), "")
        try:
            return parse_label(folder_name)
        except LabelError:
            return ""

    def _items(self) -> Iterator[tuple[str, _Picture]]:
        for root, split in self._classes:
            label = self._label(root.name)
            for path in sorted(root.rglob("*")):
                if path.is_dir():
                    continue
                name = path.relative_to(self._folder).as_posix()
                if path.suffix.lower() not in PICTURE_SUFFIXES:
                    self._leave_out("file of another kind", name)
                elif not label:
                    self._leave_out("folder is not named by a class", name)
                else:
                    yield name, _Picture(path=path, label=label, split=split)

    def _sample(self, item: _Picture) -> RawSample:
        key = key_of(item.path.relative_to(self._folder))
        label = label_targets(item.label)
        return RawSample(
            key=key,
            picture=picture_file(item.path),
            group=f"{self.reading.source}/{_subject_of(key, self._subject)}",
            split=item.split,
            class_name=label.class_name,
            targets=label.targets,
            mask=label.mask,
            is_crop=self._crops,
        )


def label_order(name: str) -> dict[int, str]:
    """The numbers of a named order; none for an empty name. Raises ConfigError."""
    if name and name not in LABEL_ORDERS:
        raise ConfigError(f"there is no order '{name}': expected one of {', '.join(LABEL_ORDERS)}")
    return dict(LABEL_ORDERS[name]) if name else {}


def subject_pattern(text: str) -> re.Pattern[str] | None:
    """A regular expression with exactly one group. Raises ConfigError."""
    if not text:
        return None
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise ConfigError(f"'{text}' is no regular expression: {error}") from error
    if pattern.groups != 1:
        raise ConfigError(f"'{text}' has {pattern.groups} groups: expected one, around the subject, e.g. (S[0-9]+)_")
    return pattern


def _subject_of(key: str, pattern: re.Pattern[str] | None) -> str:
    if pattern is None:
        return key
    match = pattern.search(key)
    if match is None or not match[1]:
        raise LeftOut("no subject in the path")
    return match[1]
