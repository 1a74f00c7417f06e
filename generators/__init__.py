"""Text-to-image generators: requests, backends, the image store, training."""
