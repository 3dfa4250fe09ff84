"""The page of a film: the film inside it, its timeline and moments. `write` makes it.

Imports report.parts of the other rooms.
"""
