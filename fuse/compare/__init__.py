"""Runs side by side under equal budgets, in one table.

A `question.Question` has rows, a row has cells (the settings of its grid), a cell is trained once
for each seed. `comparison.compare` trains them, or goes on where it was stopped; validation chooses
a cell for each row, and only that one meets the test split.
"""
