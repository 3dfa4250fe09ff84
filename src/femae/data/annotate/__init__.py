"""Labels by people: projects for Label Studio, their exports, agreement, and shards with vote shares.

Imports data.store of the other rooms.
"""
