"""`femae data prepare`: raw pictures to shards, resumable, in any number of processes or on a cluster.

`run` controls the whole run, `plan` divides the work into units, `unit` makes one shard, `pool` distributes units to
workers. Of femae.data's other subpackages, imports store and duplicates; readers are passed in.
"""
