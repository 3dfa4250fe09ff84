"""`<out>/<stem>.html`: the report of one film."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from femae.config.storage import folder_address
from femae.inference.tables import Predictions
from femae.report.film.page import film_page
from femae.report.parts.page import write_page
from femae.report.parts.tables import read_predictions
from femae.types import LabelView
from femae.video.storage import file_name

__all__ = ["write_video_report"]


def write_video_report(
    table: str | Path | Predictions,
    *,
    out: str | Path,
    video: str | Path | None = None,
    title: str = "",
    settings: Mapping[str, str] | None = None,
    problems: Sequence[str] = (),
    max_mb: float = 24.0,
    labels: LabelView = "expression",
    advance: Callable[[], None] = lambda: None,
) -> Path:
    """One HTML file at `out` from a table of predictions and the film it was made from; returns its path.

    `video`: a path or address; None: a page without film and pictures. `settings`: metadata of the table, where the
    table has none itself (CSV); `problems`: sentences to show at the top. `max_mb`: the page's size in millions of
    bytes; the film inside is encoded to fit. `labels`: which label is shown. `advance` is called after each frame of
    the film. Raises InputError (table or film), OutputError, MissingDependencyError.
    """
    film = None if video is None else folder_address(video)
    name = file_name(film) if film is not None else (table.stem if isinstance(table, Path) else "")
    stem = Path(name).stem if isinstance(table, Predictions) and film is not None else ""
    rows = read_predictions(table, name=stem, labels=labels)
    page = film_page(
        [rows],
        title=title or name or rows.name,
        video=film,
        max_mb=max_mb,
        settings={**rows.metadata, **(settings or {})},
        problems=problems,
        advance=advance,
    )
    return write_page(Path(out), page)
