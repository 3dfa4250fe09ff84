"""The loop that trains any task: `fit`; steps, schedule, averages, checkpoints, run folders, devices, monitoring.

Independent of what is learned (`task` is the protocol). Of the other subpackages, imports only training.loader.
"""
