"""`femae data doctor`: `scan` looks at every row, `checks` judges, `page` and `contact_sheet` show; `run` is the whole.

Imports data.store and data.duplicates of the other rooms.
"""
