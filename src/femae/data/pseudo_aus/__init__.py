"""`femae data pseudo-au`: action units of face crops from a blendshape network; `measure` runs it, `table` reads them.

Imports data.store of the other rooms.
"""
