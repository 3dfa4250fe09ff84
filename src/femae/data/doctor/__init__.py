"""`femae data doctor`: `scan` looks at every row, `checks` judges, `page` shows; `run` is the whole.

Imports data.store and data.duplicates of the other rooms.
"""
