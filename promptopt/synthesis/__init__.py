"""Images for a list of prompts, from Python: `synthesize(read_prompt_file(...).prompts, load(...), out)`.

OUT/images holds the images under their names (hard links into the image store, so they lie on the disk once),
OUT/manifest.csv says of each how it was made, OUT/synthesis.json keeps the folder to one set of settings.
"""
