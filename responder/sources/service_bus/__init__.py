"""Azure Service Bus: queues, and topics with subscriptions. Source: azure.md 1, protocols.md 3.

``message``: what a message says (pure). ``bus``: the only module that knows the SDK. ``receiving``: the loop that owns a receiver.
``deadletters``: what a person does about messages that were given up. The SDK is imported when the first link is opened and not before.
"""
