"""One experiment from beginning to end, and the folder it leaves."""
