"""Optical flow between two frames."""
