"""Interfaces to other libraries. Each module names the extra it needs, and imports the library only when it is used."""
