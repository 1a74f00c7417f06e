"""Stores of images by URL: buckets through fsspec, one object an image, or shards of many."""
