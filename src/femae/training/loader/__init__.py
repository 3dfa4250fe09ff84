"""Faces to batches: `sets` holds the labels, `sampler` orders rows, `loader` decodes and prefetches, `rng` is random.

Everything random is a function of seed, step and picture. Imports no other subpackage of training.
"""
