"""A study's best prompts with another generator."""
