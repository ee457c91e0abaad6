"""`python -m bertexp.evaluate`: evaluate a saved run or a checkpoint again."""
