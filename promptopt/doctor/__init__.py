"""Whether this machine can run what it is asked for, and what to do where it cannot."""
