"""From any data set to labelled face crops in Parquet shards, and the work on shards before training.

Subpackages: sources (readers of data sets), prepare (raw pictures to shards), store (shards, manifests, addresses),
doctor, annotate (Label Studio), pseudo_aus; single modules: duplicates, folds, and those that all of them share.
"""
