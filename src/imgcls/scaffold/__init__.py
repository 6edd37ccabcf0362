"""Begins a distribution that brings a plugin: files that install, pass their tests and can be published."""
