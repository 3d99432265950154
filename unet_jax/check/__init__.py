"""Reads a whole data set and trains nothing: what lies there, what is odd, and whether training would refuse it.

`check.py` is the verb; `survey.py` measures case by case, `findings.py` says what is odd;
`facts.py` and `page.py` show it.
"""
