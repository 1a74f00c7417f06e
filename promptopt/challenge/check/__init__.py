"""A look at a submission before it goes out: `check_submission`."""
