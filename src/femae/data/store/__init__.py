"""Shards: their columns, manifest, writer and reader, on a disk or in a store, and the pictures in them.

Imports data.samples alone of the other rooms.
"""
