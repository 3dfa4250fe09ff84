"""What a recipe runs: one `stage`, folds (`kfold`), an `ablation` or a chain of stages; `run` picks the right one.

Imports all other subpackages of training.
"""
