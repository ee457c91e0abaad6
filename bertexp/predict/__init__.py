"""`python -m bertexp.predict`: fill masks, score pairs."""
