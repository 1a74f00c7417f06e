"""The search: which prompt to try next, on how many images, and the record of what was tried."""
