"""The words: frozen values that every other layer speaks in.

Here live alerts, targets, actions, incidents, reasons and errors. Never here: I/O, clocks, randomness, logging, an event
loop, or foreign data formats (those enter through ``sources`` and ``clusters``).

The decision a reader would question: plain dataclasses instead of pydantic. These values are made by our own code, millions
of them in a storm; validation belongs at the border where foreign data enters.
"""
