"""What every preparation of a data set does: look at pictures, group them, share out pools, write."""
