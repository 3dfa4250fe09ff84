"""Figures for print: `draw` makes them, `run` finds what is to be drawn.

Imports report.parts and report.training_runs of the other rooms.
"""
