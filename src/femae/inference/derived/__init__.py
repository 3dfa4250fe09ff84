"""Tables derived from the table of frames: segments, windows, totals per face, and exports for other programs.

Everything here processes frames as a stream and keeps only unfinished rows in memory, never the whole film. It may
import what `femae.inference` may, and knows nothing of networks or pixels.
"""
