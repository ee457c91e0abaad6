"""Models: sizes, loading, and heads that work on predicted positions only."""
