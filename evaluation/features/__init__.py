"""Image sets and their features: reading, storing, and streamed moments."""
