"""One part alone, in process or behind one client.  Run from the top: `python -m loadtests.micro.identifiers`."""
