"""From any data set to labelled face crops in Parquet shards, and what is done with shards before training.

Rooms: sources (readers of data sets), prepare (raw pictures to shards), store (shards, manifests, addresses),
doctor, annotate (Label Studio), pseudo_aus; of one file each: duplicates, folds. Here: what all rooms speak of.
"""
