"""What lies in a run folder: settings, trials, prompts.json, images."""
