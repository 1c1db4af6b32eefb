"""The shell: intake, router, worker, hands, outbox, and the supervisor that runs them.

Everything here is async, small and replaceable, and decides nothing: judgement is in ``policy``. Never here: an SDK, or a
transition that ``policy.ladder`` does not know.
"""
