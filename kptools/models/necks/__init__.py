"""Necks: from the features of a backbone to what a head takes. One a file."""
