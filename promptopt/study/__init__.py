"""One study end to end."""
