"""What topics draw, as PNGs in the comparison's style."""
