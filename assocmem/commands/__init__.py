"""The command line and its pictures (extra `demo`)."""
