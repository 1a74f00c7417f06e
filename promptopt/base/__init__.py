"""The ground that all four packages stand on."""
