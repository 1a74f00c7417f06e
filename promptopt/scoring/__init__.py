"""From images to terms and a score, and the confirmation on fresh seeds."""
