"""Several processes for one run: how they are started, and what they tell each other."""
