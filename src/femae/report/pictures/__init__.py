"""The page of a folder of pictures. `write` makes it.

Imports report.parts of the other rooms.
"""
