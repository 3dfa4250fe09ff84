"""The HTML pages of training runs, folds and ablations, from the files in their folders. `page` writes them.

Of the other packages in report it imports only parts.
"""
