"""Manual annotation: projects for Label Studio, their exports, agreement, and shards with vote shares.

Of femae.data's other subpackages, imports store.
"""
