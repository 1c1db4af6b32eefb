"""The server: listeners, authentication, limits and error bodies; shared by every route.

Never here: what a route does (``web``).
"""
