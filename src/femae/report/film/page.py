"""The HTML page of a film, from one table of predictions or several of the same film."""

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from femae.config.storage import folder_address
from femae.errors import InputError
from femae.inference.tables import Predictions
from femae.labels import EMOTIONS
from femae.report.film.contents import Moment, pack_tracks, portrait_row, series_groups, strongest
from femae.report.film.small_film import FilmPass, pass_over_film
from femae.report.parts.page import DEFAULT_PAGE, Page, PageOptions, about_parts, jpeg_uri, write_page, zipped
from femae.report.parts.tables import PredictionTable, read_predictions, table_csv
from femae.report.parts.tracks import (
    SHARES_OF,
    Gap,
    Track,
    clock_text,
    emotion_words,
    find_gaps,
    frame_times,
    label_words,
    share_table,
    split_tracks,
    track_summary,
    unit_words,
    usual_step_s,
)
from femae.types import CLEAR_SUM, LabelView
from femae.video.palette import INK, hex_colour, label_styles
from femae.video.storage import file_name

__all__ = ["FilmToShow", "film_page", "write_video_report"]

_MAX_DRAWN: Final = 200_000  # rows drawn in the page; the download has all
_MAX_FACES_SHOWN: Final = 4  # when the page opens; the others can be switched on
_PORTRAIT, _MOMENT = 96, 240  # side of the pictures in pixels
_OTHER_BYTES: Final = 1_200_000  # reserved for style, script and pictures
_GAP_WORDS: Final = {"no_face": "no face", "unreadable": "unreadable"}
_LANE_NOTES: Final[dict[LabelView, str]] = {
    "expression": "Lanes: where each face is, in the colour of its expression, a compound in the colours of its two "
    "emotions; a thin gray line: none of them.",
    "compound": "Lanes: where each face is, in the colours and letters of its compound, pale where nothing is clear "
    f"(the six probabilities add up to less than {CLEAR_SUM}).",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class FilmToShow:
    """The film to embed in a page; `path` None: a page without film and pictures."""

    path: Path | None = None
    max_mb: float = 24.0  # size of the page, millions of bytes; the film is encoded to fit
    advance: Callable[[], None] = lambda: None  # called after each of its frames


def write_video_report(
    table: str | Path | Predictions,
    *,
    out: str | Path,
    video: str | Path | None = None,
    options: PageOptions = DEFAULT_PAGE,
    advance: Callable[[], None] = lambda: None,
) -> Path:
    """Write one HTML file to `out` from a table of predictions and its film; returns the path.

    `video`: a path or address; None: a page without film and pictures. `advance` is called after each frame of the
    film. Raises InputError (table or film), OutputError, MissingDependencyError.
    """
    film = None if video is None else folder_address(video)
    name = file_name(film) if film is not None else (table.stem if isinstance(table, Path) else "")
    stem = Path(name).stem if isinstance(table, Predictions) and film is not None else ""
    rows = read_predictions(table, name=stem, labels=options.labels)
    page = film_page(
        [rows],
        title=options.title or name or rows.name,
        film=FilmToShow(path=film, max_mb=options.max_mb, advance=advance),
        settings={**rows.metadata, **options.settings},
        problems=options.problems,
    )
    return write_page(Path(out), page)


def film_page(
    tables: Sequence[PredictionTable],
    *,
    title: str,
    film: FilmToShow,
    settings: Mapping[str, str],
    problems: Sequence[str] = (),
    agreement: Mapping[str, Any] | None = None,
) -> Page:
    """The page, with its film encoded; agreement: values of the agreement table of several tables.

    Raises InputError for a table without rows, different classes, or a film that cannot be opened.
    """
    first = _checked(tables)
    times = max((frame_times(table) for table in tables), key=len)
    tracks = _tracks(tables)
    packed = pack_tracks(tracks, times, max_rows=_MAX_DRAWN)
    moments, portraits = strongest(tracks), [portrait_row(track) for track in tracks]
    blobs, downloads = _embedded_tables(tables)
    blobs["blob-data"] = zipped(packed.block)
    found = FilmPass()
    if film.path is not None:
        room = max(film.max_mb * 1e6 - sum(map(len, blobs.values())) - _OTHER_BYTES, 0) * 3 / 4
        wanted = _wanted(tracks, portraits, moments)
        found = pass_over_film(film.path, first, times=times, wanted=wanted, max_bytes=room, advance=film.advance)
    if found.mp4:
        blobs["blob-film"] = base64.b64encode(found.mp4).decode()
    thumbs = [_uri(found, (n, row)) for n, row in enumerate(portraits)]
    gaps = find_gaps(first)
    values = _values(tracks, thumbs, moments, found, gaps, times)
    values |= {"decimated": _decimated(packed.num_drawn, tracks), "has_film": bool(found.mp4), "agreement": agreement}
    words = label_words(first.labels, SHARES_OF[0], settings=settings)
    values |= {"lane_note": _LANE_NOTES[first.labels], "key": _key(tracks), "words": words}
    inputs = [("table", table.name) for table in tables] + ([("film", film.path.name)] if film.path else [])
    return Page(
        template="video.html.j2" if agreement is None else "compare.html.j2",
        title=title,
        subtitle=_subtitle(first, times),
        scripts=("common.js", "chart.js", "viewer.js"),
        values=values,
        data=_script_data(tables, tracks, thumbs, packed.tracks, gaps, times),
        blobs=blobs,
        downloads=tuple(downloads),
        about=about_parts(settings, inputs=inputs),
        problems=(*(text for table in tables for text in table.problems), *problems, *found.problems),
    )


def _embedded_tables(tables: Sequence[PredictionTable]) -> tuple[dict[str, str], list[dict[str, str]]]:
    """The complete tables, compressed, and a download button for each."""
    blobs, downloads = {}, []
    for number, table in enumerate(tables):
        blobs[f"blob-csv-{number}"] = zipped(table_csv(table))
        word = "table (CSV)" if len(tables) == 1 else f"{table.name}.csv"
        downloads.append({"id": f"blob-csv-{number}", "name": f"{table.name}.csv", "word": word})
    return blobs, downloads


def _wanted(
    tracks: list[Track], portraits: list[int], moments: list[Moment]
) -> dict[tuple[int, int], tuple[PredictionTable, int]]:
    """The rows that get a picture, and its size; keys (track, row) for portraits, (-1 - moment, row) for moments."""
    wanted = {(n, row): (tracks[n].table, _PORTRAIT) for n, row in enumerate(portraits)}
    return wanted | {(-1 - n, m.row): (tracks[m.track].table, _MOMENT) for n, m in enumerate(moments)}


def _checked(tables: Sequence[PredictionTable]) -> PredictionTable:
    for table in tables:
        if not len(table):
            raise InputError(f"'{table.name}' has no rows: there is nothing to report")
        if table.compounds != tables[0].compounds:
            raise InputError(
                f"'{tables[0].name}' and '{table.name}' have different compound classes: compare like with like"
            )
    return tables[0]


def _tracks(tables: Sequence[PredictionTable]) -> list[Track]:
    if len(tables) == 1:
        return split_tracks(tables[0])
    tracks = []
    for number, table in enumerate(tables):
        letter = chr(ord("A") + number % 26)
        tracks += split_tracks(table, prefix=f"{letter} · {table.name} · ", short=letter)
    return tracks


def _uri(film: FilmPass, key: tuple[int, int]) -> str:
    return jpeg_uri(film.pictures[key]) if key in film.pictures else ""


def _subtitle(table: PredictionTable, times: npt.NDArray[np.float64]) -> str:
    num_ids = len(np.unique(table.face_id[table.face_id > 0]))
    without = len(np.unique(table.frame[table.status != "ok"]))
    length = clock_text(float(times[-1] - times[0]) + usual_step_s(times), digits=1)
    faces = f"{num_ids} face id{'s' * (num_ids != 1)}"
    gaps = f"{without / len(times):.1%} of the frames without a face" if without else "a face in every frame"
    return f"{len(times):,} frames, {length}, {faces}, {gaps}"


def _key(tracks: list[Track]) -> list[dict[str, Any]]:
    """The label styles of the expressions that occur, none first; empty for compounds, which the charts explain."""
    table = tracks[0].table if tracks else None
    if table is None or table.labels == "compound":
        return []
    seen = np.unique(np.concatenate([track.table.label[track.rows] for track in tracks]))
    return label_styles([table.names[number] for number in seen if number >= 0], table.compounds)


def _decimated(num_drawn: int, tracks: list[Track]) -> str:
    total = sum(len(track.rows) for track in tracks)
    return f"{num_drawn:,} of {total:,} rows" if num_drawn < total else ""


def _gap_text(gaps: list[Gap], times: npt.NDArray[np.float64]) -> str:
    if not gaps:
        return "no gaps: a face in every frame"
    parts = []
    for status, word in _GAP_WORDS.items():
        frames = sum(gap.num_frames for gap in gaps if gap.status == status)
        if frames:
            parts.append(f"{frames:,} frame{'s' * (frames != 1)} ({frames / len(times):.1%}) {word}")
    return ", ".join(parts) + "."


def _gap_end(gap: Gap, times: npt.NDArray[np.float64]) -> float:
    """Time at which the frame after the gap begins."""
    after = gap.to_frame
    return float(times[after]) if after < len(times) else float(times[-1]) + usual_step_s(times)


def _values(
    tracks: list[Track],
    thumbs: list[str],
    moments: list[Moment],
    film: FilmPass,
    gaps: list[Gap],
    times: npt.NDArray[np.float64],
) -> dict[str, Any]:
    listed = [
        {
            "word": _GAP_WORDS[gap.status],
            "from_frame": gap.from_frame,
            "to_frame": gap.to_frame,
            "from_text": clock_text(float(times[gap.from_frame - 1])),
            "length_text": f"{_gap_end(gap, times) - float(times[gap.from_frame - 1]):.2f} s",
        }
        for gap in sorted(gaps, key=lambda gap: -gap.num_frames)[:200]
    ]
    return {
        "num_frames": len(times),
        "share_tables": [share_table(t, number=n, thumb=thumbs[n]) for n, t in enumerate(tracks)],
        "moment_cards": [_card(m, n, tracks[m.track], film) for n, m in enumerate(moments)],
        "gaps": listed,
        "gaps_text": _gap_text(gaps, times),
    }


def _card(moment: Moment, number: int, track: Track, film: FilmPass) -> dict[str, Any]:
    table, row = track.table, moment.row
    where = f"{clock_text(float(table.time_s[row]))}, frame {int(table.frame[row]):,}"
    (style,) = label_styles([table.name_of(row)], table.compounds)
    return {
        "picture": _uri(film, (-1 - number, row)),
        "alt": f"{track.name} at {where}: {style['name']}",
        "style": style,
        "number_text": f"{moment.certainty:.2f}",
        "frame": int(table.frame[row]),
        "where": where,
        "face": track.name,
        "track": moment.track,
        "emotions": emotion_words([float(v) for v in table.emotions[row]], EMOTIONS),
        "units": unit_words(table, row),
    }


def _script_data(
    tables: Sequence[PredictionTable],
    tracks: list[Track],
    thumbs: list[str],
    layouts: list[dict[str, Any]],
    gaps: list[Gap],
    times: npt.NDArray[np.float64],
) -> dict[str, Any]:
    """The JSON data of the script, without the packed values."""
    groups, step = series_groups(list(tables)), usual_step_s(times)
    longest = sorted(range(len(tracks)), key=lambda n: -len(tracks[n].rows))[:_MAX_FACES_SHOWN]
    infos = [
        {"name": t.name, "short": t.short, "summary": track_summary(t, times), "thumb": thumbs[n], "on": n in longest}
        for n, t in enumerate(tracks)
    ]
    return {
        "num_frames": len(times),
        "step": step,
        "start_s": float(times[0]),
        "end_s": float(times[-1]) + step,
        "film_offset_s": float(times[0]),
        "groups": groups,
        "clear_sum": CLEAR_SUM if tables[0].labels == "compound" else None,
        "labels": label_styles(tables[0].names, tables[0].compounds),
        "ink": hex_colour(INK),
        "tracks": [info | layout for info, layout in zip(infos, layouts, strict=True)],
        "gaps": [
            {
                "status": gap.status,
                "from_frame": gap.from_frame,
                "to_frame": gap.to_frame,
                "from_s": float(times[gap.from_frame - 1]),
                "to_s": _gap_end(gap, times),
            }
            for gap in gaps
        ],
        "gaps_text": _gap_text(gaps, times),
    }
