"""What a recipe does: one `stage`, folds (`kfold`), an `ablation` or a `chain` of stages; `run` does whichever it is.

Imports all other rooms of training.
"""
