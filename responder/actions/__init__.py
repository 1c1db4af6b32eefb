"""What can be done and asked: one pure module per action and per check.

An action is a step machine: ``plan`` returns absolute values or a refusal, ``next_step`` looks at the world and returns the next write, a
wait, or the end. Never here: I/O. The decision a reader would question: ``next_step`` gets no progress, only the plan and the world,
so a crash before, between and after any write is repaired by the same look that found the first step.
"""
