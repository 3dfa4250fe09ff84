"""The doctor's page: one file, no script, nothing loaded from outside, every text escaped."""

import base64
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from femae.errors import MissingDependencyError

if TYPE_CHECKING:
    from femae.data.doctor.run import Diagnosis

__all__ = ["render_page"]

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
{% if not d.findings %}Nothing found that is wrong.{% endif %}</p>
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
{% if s.labels %}<table><tr><th>label<th>known<th>at least one half<th>sum of targets</tr>
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


def render_page(diagnosis: "Diagnosis", pictures: Mapping[str, bytes]) -> str:
    """The page; `pictures` are the contact sheets (png) by file name. Raises MissingDependencyError without jinja2."""
    try:
        from jinja2 import Environment, StrictUndefined
    except ImportError as error:
        raise MissingDependencyError("the doctor's page needs the package jinja2: pip install 'femae[data]'") from error
    images = {file: f"data:image/png;base64,{base64.b64encode(png).decode()}" for file, png in pictures.items()}
    template = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True).from_string(_PAGE)
    return template.render(d=diagnosis, images=images)
