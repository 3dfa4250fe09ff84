"""`femae data pseudo-au`: action units of face crops from a blendshape network; `measure` runs it, `table` stores them.

Of femae.data's other subpackages, imports store.
"""
