"""`python -m cpgraph` is the `cpgraph` command."""

from cpgraph.cli import main

if __name__ == "__main__":
    main()
