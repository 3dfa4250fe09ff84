"""Pictures in folders: with a folder per class, or without labels.

- **A folder per class**: `[train|val|test/]<class>/*.jpg`. Class folders are named by an emotion, a compound or another
  expression in any usual spelling (`happy`, `Sad`, `Fearfully_Surprised`, `fear+surprise`, `neutral`), or by numbers of
  a known order (`order="raf-db-basic"`).
- **Pictures and films without labels**, at any depth: for pretraining or annotation. Each film is a group; each picture
  too, or with `group="folder"` all pictures of one folder.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from femae.data.samples import PictureFile, RawSample, VideoFrame
from femae.data.sources.base import (
    FILM_SUFFIXES,
    PICTURE_SUFFIXES,
    LeftOut,
    Source,
    check_every,
    film_length,
    key_of,
    listed,
    picture_file,
    require,
)
from femae.data.targets import label_targets
from femae.errors import ConfigError, LabelError
from femae.labels import LABEL_ORDERS, parse_label

__all__ = ["FolderPerClassSource", "UnlabelledSource", "label_order"]

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
    """Reads every picture in the class folders, at any depth."""

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
        """`order`: for class folders named by numbers, one of labels.LABEL_ORDERS. `crops`: pictures are face crops.

        `subject`: regular expression with one group that matches the subject in a picture's path, e.g. `(S\\d+)_`;
        without it each picture is a group. Raises DataError when no folder is named by a class, ConfigError for an
        unknown order or an invalid expression.
        """
        super().__init__(name=name, keep_unlabelled=keep_unlabelled)
        self._folder, self._crops = folder, crops
        self._numbers, self._subject = label_order(order), _subject_pattern(subject)
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
        """The class named by a folder; empty if none."""
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
    """The number -> label mapping of a named order; empty for an empty name. Raises ConfigError for an unknown one."""
    if name and name not in LABEL_ORDERS:
        raise ConfigError(f"there is no order '{name}': expected one of {', '.join(LABEL_ORDERS)}")
    return dict(LABEL_ORDERS[name]) if name else {}


def _subject_pattern(text: str) -> re.Pattern[str] | None:
    """Compile a regular expression with exactly one group; None for an empty text. Raises ConfigError."""
    if not text:
        return None
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise ConfigError(f"'{text}' is not a regular expression: {error}") from error
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


@dataclass(frozen=True, kw_only=True, slots=True)
class _Unlabelled:
    path: Path
    frame: int | None  # None: a picture


class UnlabelledSource(Source[_Unlabelled]):
    """Reads all pictures and films of a folder at any depth, or a single one."""

    def __init__(
        self,
        folder: Path,
        *,
        every: int = 1,
        group: Literal["file", "folder"] = "file",
        crops: bool = False,
        name: str = "unlabelled",
    ) -> None:
        """`every`: take frames 1, 1 + every, ... of films. `crops`: pictures are face crops.

        Raises DataError when there is no picture and no film.
        """
        super().__init__(name=name, keep_unlabelled=True)
        self._root = folder if folder.is_dir() else folder.parent
        self._every, self._group, self._crops = check_every(every), group, crops
        files = sorted(folder.rglob("*")) if folder.is_dir() else [folder]
        self._files = [path for path in files if not path.is_dir()]
        kinds = (*PICTURE_SUFFIXES, *FILM_SUFFIXES)
        require(
            any(path.suffix.lower() in kinds and path.exists() for path in self._files),
            what=f"{folder} holds no picture and no film",
            looked_for=[f"*{suffix}" for suffix in kinds],
        )

    def _items(self) -> Iterator[tuple[str, _Unlabelled]]:
        for path in self._files:
            name = path.relative_to(self._root).as_posix()
            if path.suffix.lower() in PICTURE_SUFFIXES:
                yield name, _Unlabelled(path=path, frame=None)
            elif path.suffix.lower() in FILM_SUFFIXES:
                yield from self._frames(path, name)
            else:
                self._leave_out("file of another kind", name)

    def _frames(self, path: Path, name: str) -> Iterator[tuple[str, _Unlabelled]]:
        try:
            count = film_length(path)
        except LeftOut as problem:
            self._leave_out(str(problem), name)
            return
        chosen = range(1, count + 1, self._every)
        for number in chosen:
            yield f"{name}#{number}", _Unlabelled(path=path, frame=number)
        if len(chosen) < count:
            self._leave_out(f"frame passed over (every {self._every})", name, count=count - len(chosen))

    def _sample(self, item: _Unlabelled) -> RawSample:
        key = key_of(item.path.relative_to(self._root))
        if item.frame is not None:
            return RawSample(
                key=f"{key}#{item.frame:05d}",
                picture=VideoFrame(path=item.path, frame=item.frame),
                group=f"{self.reading.source}/{key}",
            )
        picture: PictureFile = picture_file(item.path)
        group = key if self._group == "file" else Path(key).parent.as_posix()
        return RawSample(key=key, picture=picture, group=f"{self.reading.source}/{group}", is_crop=self._crops)
