"""Set-level numbers as values of single images: what an image adds to a set, given the set."""
