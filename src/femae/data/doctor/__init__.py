"""`femae data doctor`: `scan` iterates over all samples, `checks` examines them, `page` renders, `run` combines these.

Of femae.data's other subpackages, imports store and duplicates.
"""
