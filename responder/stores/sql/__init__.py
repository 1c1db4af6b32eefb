"""One set of synchronous functions over a ``Connection``, and the runners that carry them out.

Source: engine.md, where every statement and trap was measured. Never here: an event loop inside an operation.
"""
