"""`femae data prepare`: raw pictures to shards, resumable, in any number of processes or on a cluster.

`run` goes from plan to manifest, `plan` cuts the work into units, `unit` does one, `pool` gives units to workers.
Imports data.store and data.duplicates of the other rooms; it is given readers and imports none.
"""
