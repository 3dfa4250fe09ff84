"""The page of a film: the film inside it, its timeline and moments. `page` makes it.

Imports report.parts of the other rooms.
"""
