"""What a set of images is worth, in one table: every metric with its interval."""
