"""The commands: one a file. Each parses, makes one call, and writes."""
