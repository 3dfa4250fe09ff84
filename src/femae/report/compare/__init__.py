"""Films by condition: means, differences and their intervals (`compare`), and the page of it (`write`).

Imports report.parts and report.film of the other rooms.
"""
