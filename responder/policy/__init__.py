"""The judgement: targets, causes, facts, guards, the ladder, escalation, and ``decide``, which joins them.

Pure, synchronous and clockless: everything is a function of values. Never here: I/O, time, randomness, logging, an event loop.
"""
