"""The JSON API and the pages people open from a message. Never here: judgement, SQL, or a GET that changes something."""
