"""LoRA adapters: reading, joining and the layouts that others write."""
