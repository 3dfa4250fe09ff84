"""The pages of training runs, folds and ablations. `write` makes them.

Imports report.parts of the other rooms.
"""
