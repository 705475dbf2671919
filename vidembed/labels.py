"""By what several encoders of one job are told apart."""

ALONE = ""
"""The label of an encoder that is the only one."""
