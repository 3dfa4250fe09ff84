"""The pages of training runs, folds and ablations, of what lies in their folders. `page` makes them.

Imports report.parts of the other rooms.
"""
