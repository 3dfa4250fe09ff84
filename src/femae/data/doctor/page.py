"""The doctor's HTML page (no scripts, no external resources, all text escaped), and contact sheets.

A contact sheet is a picture with some faces of one class, to see its content at a glance.
"""

import base64
import heapq
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from femae.errors import MissingDependencyError

if TYPE_CHECKING:
    from femae.data.doctor.run import Diagnosis

__all__ = ["ContactSheets", "draw_sheet", "render_page"]

_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>femae data doctor</title>
<style>
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; }
th, td { text-align: left; padding: .2rem .8rem .2rem 0; vertical-align: top; border-bottom: 1px solid #8884; }
td.n { text-align: right; font-variant-numeric: tabular-nums; }
.error { color: #c22; font-weight: 600; } .warning { color: #b60; font-weight: 600; } .note { color: #789; }
.bar { display: inline-block; height: .7rem; background: #48a; }
details { max-width: 46rem; overflow-wrap: anywhere; } img { max-width: 100%; display: block; margin: .3rem 0 1.5rem; }
</style></head><body>
<h1>{{ d.subject }}</h1>
<p>{{ "{:,}".format(d.num_samples) }} samples of {{ d.sources|length }} data set{{ "s" if d.sources|length != 1 }}
({{ d.kind }}).
{% if not d.findings %}No problems found.{% endif %}</p>
{% if d.findings %}<h2>Findings</h2><table><tr><th>severity<th>kind<th>count<th>what</tr>
{% for f in d.findings %}<tr><td class="{{ f.severity }}">{{ f.severity }}</td><td>{{ f.kind }}</td>
<td class="n">{{ "{:,}".format(f.count) }}</td><td>{{ f.text }}
{% if f.examples %}<details><summary>examples</summary>
{% for e in f.examples %}{{ e }}<br>{% endfor %}</details>{% endif %}
</td></tr>{% endfor %}</table>{% endif %}
{% for name, s in d.sources.items() %}<h2>{{ name }}</h2>
<p>{{ "{:,}".format(s.num_samples) }} samples; splits:
{% for split, n in s.splits.items() %}{{ split }} {{ "{:,}".format(n) }}{{ ", " if not loop.last }}{% endfor %}</p>
<table><tr><th>class<th>samples<th></tr>
{% for word, n in s.classes.items() %}<tr><td>{{ word }}</td><td class="n">{{ "{:,}".format(n) }}</td>
<td><span class="bar" style="width: {{ (16 * n / s.num_samples)|round(2) }}rem"></span></td></tr>{% endfor %}</table>
{% if s.labels %}<table><tr><th>label<th>known<th>0.5 or more<th>sum of targets</tr>
{% for word, l in s.labels.items() %}<tr><td>{{ word }}</td><td class="n">{{ "{:,}".format(l.known) }}</td>
<td class="n">{{ "{:,}".format(l.positive) }}</td><td class="n">{{ "{:,.1f}".format(l.sum) }}</td></tr>{% endfor %}
</table>
{% endif %}{% endfor %}
{% if d.quality %}<h2>Quality</h2><table>
<tr><th>measure<th>least<th>5 %<th>25 %<th>median<th>75 %<th>95 %<th>most</tr>
{% for word, values in d.quality.items() %}<tr><td>{{ word }}</td>
{% for v in values %}<td class="n">{{ "{:.3g}".format(v) }}</td>{% endfor %}</tr>{% endfor %}</table>{% endif %}
<h2>Contact sheets</h2>
{% for name, total, file in d.sheets %}
<img alt="{{ name }}: faces drawn from {{ total }}" src="{{ images[file] }}">
{% endfor %}
</body></html>
"""
_THUMB: Final = 96  # side of a thumbnail in pixels
_TITLE: Final = 28  # height of the title in pixels
_COLUMNS: Final = 10


def render_page(diagnosis: "Diagnosis", pictures: Mapping[str, bytes]) -> str:
    """The page as HTML; `pictures`: contact sheets (png) by file name. Raises MissingDependencyError without jinja2."""
    try:
        from jinja2 import Environment, StrictUndefined
    except ImportError as error:
        raise MissingDependencyError("the doctor's page needs the package jinja2: pip install 'femae[data]'") from error
    images = {file: f"data:image/png;base64,{base64.b64encode(png).decode()}" for file, png in pictures.items()}
    template = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True).from_string(_PAGE)
    return template.render(d=diagnosis, images=images)


class ContactSheets:
    """Keeps a fixed number of faces per class: those with the smallest digests, a deterministic random sample."""

    def __init__(self, *, num_faces: int = 40, max_classes: int = 60) -> None:
        self.num_faces, self.max_classes = num_faces, max_classes
        self._faces: dict[str, list[tuple[int, int, npt.NDArray[np.uint8]]]] = {}
        self._totals: dict[str, int] = {}
        self._count = 0

    def add(self, class_name: str, image: npt.NDArray[np.uint8], digest: bytes) -> None:
        """Add a picture u8[H, W, 3] RGB of a class; `digest`: of its pixels."""
        name = class_name or "(no label)"
        self._totals[name] = self._totals.get(name, 0) + 1
        if name not in self._faces and len(self._faces) >= self.max_classes:
            return
        faces = self._faces.setdefault(name, [])
        rank = -int.from_bytes(digest[:8], "big")
        if len(faces) >= self.num_faces and rank <= faces[0][0]:
            return
        self._count += 1
        thumb = Image.fromarray(image)
        thumb.thumbnail((_THUMB, _THUMB), Image.Resampling.BILINEAR)
        entry = (rank, self._count, np.asarray(thumb, np.uint8))
        if len(faces) < self.num_faces:
            heapq.heappush(faces, entry)
        else:
            heapq.heapreplace(faces, entry)

    def sheets(self) -> list[tuple[str, int, bytes]]:
        """(class name, number of its samples, png) of every class, the most frequent first."""
        names = sorted(self._faces, key=lambda name: (-self._totals[name], name))
        return [
            (name, self._totals[name], draw_sheet(name, self._totals[name], self._ordered_faces(name)))
            for name in names
        ]

    def _ordered_faces(self, name: str) -> list[npt.NDArray[np.uint8]]:
        return [face for _, _, face in sorted(self._faces[name], key=lambda entry: -entry[0])]


def draw_sheet(name: str, total: int, faces: Sequence[npt.NDArray[np.uint8]]) -> bytes:
    """A contact sheet as png: a title and rows of ten faces u8[H, W, 3], at most 96 pixels a side."""
    num_rows = max(-(-len(faces) // _COLUMNS), 1)
    sheet = Image.new("RGB", (_COLUMNS * _THUMB, _TITLE + num_rows * _THUMB), (24, 24, 24))
    title = f"{name}   {len(faces)} of {total:,}"
    ImageDraw.Draw(sheet).text((8, 5), title, fill=(255, 255, 255), font=ImageFont.load_default(16))
    for position, face in enumerate(faces):
        row, column = divmod(position, _COLUMNS)
        height, width = face.shape[:2]
        left = column * _THUMB + (_THUMB - width) // 2
        top = _TITLE + row * _THUMB + (_THUMB - height) // 2
        sheet.paste(Image.fromarray(face), (left, top))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return buffer.getvalue()
