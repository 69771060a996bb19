"""Datasets: one a file, each a generator of items in the order of its own files.

An importer yields `Item`s: the record, and the file and line that it comes from. A face that
cannot be used is an item whose record has a `status`. Coordinates come out in the file frame.
"""
