"""Checks history anywhere: exports and proofs, against a key and checkpoints that you kept.

The service imports this package as `oracle.verifier`.  Auditors install the same folder as the distribution
`oracle-verify`, where it is called `oracle_verify`.  So its modules import one another relatively, and otherwise only
the standard library, cryptography and msgspec.  They run on Windows, too.
"""
