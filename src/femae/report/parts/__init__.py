"""What pages are made of: the page itself, charts and series, tables of predictions, and tracks of faces.

Imports no other room of report.
"""
