"""Hyper-parameter search: a space of options, backends that propose trials, studies that survive a kill."""
