"""Building blocks of all pages: the HTML page, SVG charts and series, tables of predictions, and face tracks.

Imports no other package of report.
"""
