"""The HTML page of a film: embedded film, timeline, and the strongest moments. `page` writes it.

Of the other packages in report it imports only parts.
"""
