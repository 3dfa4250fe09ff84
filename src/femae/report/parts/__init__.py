"""What pages are made of: the page itself, charts, colours, tables of predictions, tracks and shares.

Imports no other room of report.
"""
