"""`python -m mcugraph` is `mcugraph`."""

from mcugraph.cli import main

if __name__ == "__main__":
    main()
