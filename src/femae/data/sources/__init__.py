"""Readers of data sets as published, and general ones; `catalog` lists them, `base` has their common parts.

Of femae.data's other modules, imports only samples and targets.
"""
