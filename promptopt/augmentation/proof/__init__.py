"""Whether an augmentation set makes a classifier of real images better."""
