"""Tables that follow from the table of frames: segments, windows, totals per face, and files of other programs.

Everything here reads frames one after the other and remembers what is still open, never the whole film. It may import
what `femae.inference` may, and knows nothing of networks or pixels.
"""
