"""`femae predict --report`: writes a page beside the table of each input."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from femae.inference.item import ItemOutputs
from femae.report.film.page import write_video_report
from femae.report.parts.page import PageOptions
from femae.report.pictures import write_pictures_report
from femae.types import LabelView
from femae.video.discover import InputItem
from femae.video.storage import file_name

__all__ = ["report_outputs"]


def report_outputs(
    item: InputItem,
    outputs: ItemOutputs,
    schema: Any,
    advance: Callable[[], None],
    *,
    labels: LabelView = "expression",
) -> list[Path]:
    """Write `<table>.html` beside the first table of an input; `schema`: of the table, with settings as metadata."""
    table = outputs.tables[0]
    settings = {key.decode(): value.decode("utf-8", "replace") for key, value in (schema.metadata or {}).items()}
    out = table.with_suffix(".html")
    title = file_name(item.paths[0]) if item.kind == "video" else Path(item.name).name or item.stem
    options = PageOptions(title=title, labels=labels, settings=settings, problems=outputs.problems)
    if item.kind == "video":
        path = write_video_report(table, out=out, video=item.paths[0], options=options, advance=advance)
    else:
        path = write_pictures_report(table, out=out, pictures=item.paths, options=options)
    return [path]
