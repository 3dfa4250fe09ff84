"""Faces to batches: `sets` holds labels, `sampler` the order, `loader` gathers, decodes and prefetches, `rng` draws.

All that is random is a function of seed, step and picture. Imports no other room of training.
"""
