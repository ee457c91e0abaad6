"""``python -m bertexp``."""

from bertexp.cli import main

if __name__ == "__main__":
    main()
