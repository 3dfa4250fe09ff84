"""The loop that trains any task: `fit`; steps, schedule, averages, states, run folders, devices, figures.

Knows nothing of what is learned (`task` is the protocol). Imports training.loader of the other rooms.
"""
