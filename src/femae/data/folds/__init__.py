"""Folds that split no person, film or copy: `assign` draws them, `table` makes and reads folds.parquet of shards.

Imports data.store and data.duplicates of the other rooms.
"""
