"""Runs over a real network: every host a namespace of this machine, between them a switch that a test commands."""
