"""Everything that a GPU has to prove, in one command that takes minutes: `python -m benchmarks.gpu`.

`README.md` beside this file has the calls to make on a machine that is lent for fifteen minutes.
"""
