"""Has a table moved away from a reference, how sure is that, and does it matter?"""
