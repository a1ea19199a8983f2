"""The questions: cases and calls as values with a one-line text form, and their dtypes, layouts and attributes."""
