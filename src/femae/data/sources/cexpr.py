"""C-EXPR-DB (Kollias 2023): films of compound expressions; the challenge gives 56 of them without labels; 4.1.1.

    01.mp4 ... 56.mp4            or frames as pictures, 01/00001.jpg
    01.txt                       optional labels per frame: a header, then frame n on line n + 1
    labels.csv                   or one table, rows `01/00001.jpg,<int>` (the challenge's template, filled in)

The integers are those of the challenge, 0 Fearfully Surprised .. 6 Sadly Angry; 7 is another expression, -1 unknown.
Without labels every frame is kept, unlabelled. The film is the group.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from femae.data.samples import PictureFile, RawSample, VideoFrame
from femae.data.sources.base import (
    BLANK_LINE,
    FILM_SUFFIXES,
    WRONG_COLUMNS,
    LeftOut,
    Source,
    check_every,
    csv_rows,
    film_length,
    key_of,
    listed,
    numbered_label,
    numbered_pictures,
    picture_file,
    require,
    text_lines,
)
from femae.data.targets import unknown_targets
from femae.labels import LABEL_ORDERS

__all__ = ["CExprSource"]

_ORDER: Final = LABEL_ORDERS["abaw-compound"]
_TABLES: Final = ("labels.csv", "labels.txt")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Frame:
    film: str
    number: int  # from 1
    path: Path  # of the film or the picture
    label: str | None  # as written; None: the film has no labels
    last: int  # number of frames of the film


class CExprSource(Source[_Frame]):
    """Reads films, or folders of their frames, and labels if there are any."""

    def __init__(
        self,
        folder: Path,
        *,
        labels: Path | None = None,
        every: int = 1,
        keep_unlabelled: bool | None = None,
        name: str = "cexpr",
    ) -> None:
        """`labels`: folder of <film>.txt or a table; by default in the folders of the films.

        `keep_unlabelled`: by default True when there are no labels at all. Raises DataError when there is no film.
        """
        folders = [folder, *(child for child in listed(folder) if child.is_dir() and not numbered_pictures(child))]
        films = [path for parent in folders for path in listed(parent)]
        self._films = [path for path in films if path.suffix.lower() in FILM_SUFFIXES]
        self._films = self._films or [path for path in films if path.is_dir() and numbered_pictures(path)]
        require(self._films, what=f"{folder} holds no films of C-EXPR-DB", looked_for=["01.mp4", "01/00001.jpg"])
        self._table, self._texts = _find_labels([labels] if labels is not None else folders)
        has_labels = bool(self._table or self._texts)
        require(
            labels is None or has_labels, what=f"{labels} holds no labels of C-EXPR-DB", looked_for=["01.txt", *_TABLES]
        )
        super().__init__(name=name, keep_unlabelled=not has_labels if keep_unlabelled is None else keep_unlabelled)
        self._every = check_every(every)

    def _items(self) -> Iterator[tuple[str, _Frame]]:
        table = self._read_table()
        for film in self._films:
            labels = self._labels_of(film.stem, table)
            try:
                pictures = numbered_pictures(film) if film.is_dir() else None
                last = film_length(film) if pictures is None else max(pictures)
            except LeftOut as problem:
                self._leave_out(str(problem), film.name, count=max(1, len(labels or ())))
                continue
            end = max(last, max(labels, default=0)) if labels is not None else last
            for number in range(1, end + 1, self._every):
                path = film if pictures is None else pictures.get(number, film / f"{number:05d}.jpg")
                label = None if labels is None else labels.get(number, "")
                if number > last and not label:
                    continue
                yield (
                    f"{film.stem}/{number:05d}",
                    _Frame(film=film.stem, number=number, path=path, label=label, last=last),
                )
            if self._every > 1:
                skipped = end - len(range(1, end + 1, self._every))
                self._leave_out(f"frame passed over (every {self._every})", film.name, count=skipped)

    def _labels_of(self, film: str, table: dict[str, dict[int, str]]) -> dict[int, str] | None:
        """Frame -> label as written; None if the film has no labels."""
        if film in self._texts:
            lines = [line for _, line in text_lines(self._texts[film])]
            return dict(enumerate(lines[1:], 1))
        return table.get(film)

    def _read_table(self) -> dict[str, dict[int, str]]:
        """Film -> frame -> label, of a table with rows `01/00001.jpg,<int>`."""
        table: dict[str, dict[int, str]] = {}
        for number, row in csv_rows(self._table) if self._table is not None else ():
            film, _, frame = row[0].partition("/") if row else ("", "", "")
            frame = frame.split(".")[0]
            if len(row) >= 2 and frame.isdecimal():
                table.setdefault(film, {})[int(frame)] = row[1]
            elif number > 1:
                self._leave_out(WRONG_COLUMNS if row else BLANK_LINE, f"line {number} of the table of labels")
        return table

    def _sample(self, item: _Frame) -> RawSample:
        if item.number > item.last:
            raise LeftOut("label beyond the last frame")
        if not item.label and not self._keep_unlabelled:
            raise LeftOut("film without labels" if item.label is None else "frame without a label")
        label = numbered_label(item.label, _ORDER) if item.label else unknown_targets()
        film = key_of(item.film)
        picture: VideoFrame | PictureFile
        is_film = item.path.suffix.lower() in FILM_SUFFIXES
        picture = VideoFrame(path=item.path, frame=item.number) if is_film else picture_file(item.path)
        return RawSample(
            key=f"{film}#{item.number:05d}",
            picture=picture,
            group=f"cexpr/{film}",
            class_name=label.class_name,
            targets=label.targets,
            mask=label.mask,
        )


def _find_labels(paths: list[Path]) -> tuple[Path | None, dict[str, Path]]:
    """(table of labels or None, film -> text file of its labels)."""
    files = [file for path in paths for file in (listed(path) if path.is_dir() else [path])]
    table = next((file for file in files if file.name.lower() in _TABLES or file in paths), None)
    if table is not None and not table.is_file():
        table = None
    texts = {path.stem: path for path in files if path.suffix.lower() == ".txt" and path != table}
    return table, texts
