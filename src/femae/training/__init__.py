"""Training (paper, sections 3.2 to 4.4): recipes call stages, a stage is a task, one loop trains any task.

Subpackages, each importing only those after it: recipes (stage, folds, ablation, chain), tasks (what a stage learns),
loop (steps, schedule, checkpoints, devices), loader (faces, sampling, random numbers). Imports nothing of inference.
"""
