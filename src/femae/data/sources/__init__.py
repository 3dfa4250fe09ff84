"""Readers of data sets as they were published, and general ones; `catalog` names them, `base` is what they share.

Imports data.samples and data.targets alone of the other rooms.
"""
