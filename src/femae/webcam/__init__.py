"""`femae webcam`: a live window over a camera, a stream or a film, that drops frames rather than lag."""
