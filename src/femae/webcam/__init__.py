"""`femae webcam`: a live window over a camera, a stream or a film, which drops frames to keep latency low."""
