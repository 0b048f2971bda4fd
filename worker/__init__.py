"""Trailmend: watches AWS CloudTrail for lost IAM instance profiles and weakened IAM users, explains them, and mends them."""

__version__ = "0.1.0"
