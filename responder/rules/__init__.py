"""The rule language: from YAML text to compiled rules, and from an alert to the rules that fit it.

Here live the grammar (``schema``), its two small languages (``matchers`` over labels, ``expressions`` over facts), the compiler and
the index. Never here: which actions and checks exist (they arrive as one ``catalogue`` value), what a fact's value is, or what is
done about an alert (``policy``).

The decision a reader would question: rules are compiled against a catalogue that is handed in, instead of importing the actions.
Plug-in actions reach the compiler the same way as built-in ones, and the import order stays one way.
"""
