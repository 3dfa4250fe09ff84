"""The HTML report of pictures: a gallery with the faces and labels of each."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from femae.errors import InputError
from femae.inference.tables import Predictions
from femae.labels import EMOTIONS
from femae.report.parts.draw_rows import cut_face, draw_rows, shrink
from femae.report.parts.page import DEFAULT_PAGE, Page, PageOptions, about_parts, jpeg_uri, write_page, zipped
from femae.report.parts.tables import PredictionTable, read_predictions, table_csv
from femae.report.parts.tracks import SHARES_OF, emotion_words, label_words, share_rows, unit_key, unit_words
from femae.video.palette import label_styles
from femae.video.pictures import PictureSource

__all__ = ["write_pictures_report"]

_SIZES: Final = ((640, 82), (480, 78), (320, 74), (240, 70))  # longest side, JPEG quality
_BYTES_PER_PIXEL: Final = 0.16  # base64 bytes per squared longest side
_NUM_MOMENTS: Final = 12
_OTHER_KINDS: Final = {"abstained": "abstained", "no_face": "without a face", "unreadable": "unreadable"}


def write_pictures_report(
    table: str | Path | Predictions,
    *,
    out: str | Path,
    pictures: Sequence[Path] = (),
    names: Mapping[str, str] | None = None,
    options: PageOptions = DEFAULT_PAGE,
) -> Path:
    """Write one HTML file to `out` with the pictures of a table; returns the path.

    `pictures`: the files, matched with the column `source` by their names, or by the name that `names` gives a file;
    none: a page of text only. If they do not all fit into the page, those with the most certain labels stay. Raises
    InputError, OutputError, MissingDependencyError (jinja2).
    """
    rows = read_predictions(table, labels=options.labels)
    if not len(rows):
        raise InputError(f"'{rows.name}' has no rows: there is nothing to report")
    longest, quality, count = _fit(len(np.unique(rows.source)), options.max_mb)
    figures, cut_outs, left_out = _figures(
        rows, pictures, names=names or {}, longest=longest, quality=quality, keep=count
    )
    known = {**rows.metadata, **options.settings}
    all_faces = np.flatnonzero(rows.face_id > 0)
    values: dict[str, Any] = {
        "figures": figures,
        "moment_cards": _cards(rows, cut_outs),
        "share_tables": [_shares(rows, all_faces)] if len(all_faces) else [],
        "words": label_words(rows.labels, SHARES_OF[1], settings=known),
        "kinds": _kinds(figures),
    }
    page = Page(
        template="pictures.html.j2",
        title=options.title or rows.name,
        subtitle=_subtitle(rows),
        scripts=("common.js", "gallery.js"),
        values=values,
        blobs={"blob-csv": zipped(table_csv(rows))},
        downloads=({"id": "blob-csv", "name": f"{rows.name}.csv", "word": "table (CSV)"},),
        about=about_parts(known, inputs=[("table", rows.name)]),
        problems=(*rows.problems, *options.problems, *left_out),
    )
    return write_page(Path(out), page)


def _fit(num_pictures: int, max_mb: float) -> tuple[int, int, int]:
    """Longest side in pixels, JPEG quality and number of the pictures that fit."""
    room = 0.9 * max_mb * 1e6
    for longest, quality in _SIZES:
        if num_pictures * longest**2 * _BYTES_PER_PIXEL <= room:
            return longest, quality, num_pictures
    longest, quality = _SIZES[-1]
    return longest, quality, max(1, int(room / (longest**2 * _BYTES_PER_PIXEL)))


def _subtitle(rows: PredictionTable) -> str:
    num_pictures = len(np.unique(rows.source))
    parts = [f"{num_pictures:,} picture{'s' * (num_pictures != 1)}", f"{(rows.face_id > 0).sum():,} faces"]
    for status, word in (("no_face", "without a face"), ("unreadable", "unreadable")):
        count = len(np.unique(rows.source[rows.status == status].astype(str)))
        if count:
            parts.append(f"{count:,} {word}")
    return ", ".join(parts)


def _shares(rows: PredictionTable, faces: npt.NDArray[np.int64]) -> dict[str, Any]:
    table = {"name": "all pictures", "track": None, "thumb": "", "summary": f"{len(faces):,} faces"}
    return table | {"rows": share_rows(rows, faces), "units": unit_key(rows)}


def _strongest_rows(rows: PredictionTable) -> list[int]:
    """Rows with a label other than `none`, in descending order of certainty."""
    labelled = (rows.label >= 0) & (rows.label != rows.quiet)
    certainty = np.where(labelled, np.nan_to_num(rows.certainty), -1)
    return [int(row) for row in np.argsort(-certainty, kind="stable") if labelled[row]]


def _figures(
    rows: PredictionTable,
    pictures: Sequence[Path],
    *,
    names: Mapping[str, str],
    longest: int,
    quality: int,
    keep: int,
) -> tuple[list[dict[str, Any]], dict[int, str], list[str]]:
    """An entry per source in the table's order, cut-outs of the strongest rows (data URIs by row), and problems."""
    by_source: dict[str, list[int]] = {}
    for row, source in enumerate(rows.source):
        by_source.setdefault(str(source), []).append(row)
    wanted = set(_strongest_rows(rows)[:_NUM_MOMENTS])
    order = {rows.source[row]: rank for rank, row in reversed(list(enumerate(_strongest_rows(rows))))}
    shown = set(sorted(by_source, key=lambda source: order.get(source, len(rows)))[:keep])
    uris: dict[str, str] = {}
    cut_outs: dict[int, str] = {}
    for frame in PictureSource(list(pictures), name=rows.name):
        source = names.get(frame.source, frame.source)
        own = by_source.get(source, [])
        if frame.image is None or not own:
            continue
        for row in wanted.intersection(own):
            cut = cut_face(frame.image, rows.boxes[row], size=240)
            if cut is not None:
                cut_outs[row] = jpeg_uri(cut)
        if source in shown:
            small, factor = shrink(frame.image, longest=longest)
            uris[source] = jpeg_uri(draw_rows(small, rows, np.array(own), factor=factor), quality=quality)
    problems = []
    if pictures and keep < len(by_source):
        problems.append(f"{keep:,} of {len(by_source):,} pictures are in this page, those with the strongest faces.")
    return [_figure(rows, source, own, uris.get(source, "")) for source, own in by_source.items()], cut_outs, problems


def _figure(rows: PredictionTable, source: str, own: list[int], uri: str) -> dict[str, Any]:
    faces = [row for row in own if rows.face_id[row] > 0]
    words = [
        {
            "face": f"face {rows.face_id[row]}",
            "style": _style(rows, row),
            "number_text": f"{rows.certainty[row]:.2f}",
            "emotions": emotion_words([float(v) for v in rows.emotions[row]], EMOTIONS),
        }
        for row in faces
    ]
    status = str(rows.status[own[0]])
    kinds = sorted({rows.name_of(row) or "abstained" for row in faces}) or [status]
    return {"source": source, "uri": uri, "faces": words, "status": status.replace("_", " "), "kinds": "|".join(kinds)}


def _style(rows: PredictionTable, row: int) -> dict[str, Any]:
    (style,) = label_styles([rows.name_of(row) or "abstained"], rows.compounds)
    return style


def _kinds(figures: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Value and text of each option of the filter: labels first, then kinds without a label."""
    found = dict.fromkeys(sorted(kind for figure in figures for kind in figure["kinds"].split("|")))
    labels = [(kind, kind) for kind in found if kind not in _OTHER_KINDS]
    return labels + [(kind, word) for kind, word in _OTHER_KINDS.items() if kind in found]


def _cards(rows: PredictionTable, cut_outs: Mapping[int, str]) -> list[dict[str, Any]]:
    return [
        {
            "picture": cut_outs.get(row, ""),
            "alt": f"face {rows.face_id[row]} of {rows.source[row]}",
            "style": _style(rows, row),
            "number_text": f"{rows.certainty[row]:.2f}",
            "where": rows.source[row],
            "face": f"face {rows.face_id[row]}",
            "track": None,
            "emotions": emotion_words([float(v) for v in rows.emotions[row]], EMOTIONS),
            "units": unit_words(rows, row),
        }
        for row in _strongest_rows(rows)[:_NUM_MOMENTS]
    ]
