"""What is asked: cases and calls as values with one line of text, dtypes, layouts, attributes."""
