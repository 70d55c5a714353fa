"""The simulated dom0: an executable that stands in for `xl` (docs/simulated-dom0.md).

Its state is one directory; each domain is a small process of its own that outlives whoever created it.
"""
