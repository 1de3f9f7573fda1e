"""Load tests: see README.md beside this file.  Run from the top of the tree: `python -m loadtests.ceiling`."""
