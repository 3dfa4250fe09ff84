"""Networks in PyTorch and their weights: the encoder, the face model, the masked autoencoder (paper, section 3)."""
