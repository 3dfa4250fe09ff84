"""Shards: their schema, manifest, writer and reader, on disk or in an object store, and the pictures in them.

Of femae.data's other modules, imports only samples.
"""
