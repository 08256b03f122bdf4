"""Runs side by side under equal budgets."""
