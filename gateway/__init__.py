"""Tollgate: the policy gateway for agent traffic. One door in front of every agent, tool and model endpoint."""

__version__ = "0.1.0"
