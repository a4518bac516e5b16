"""What is learned: tasks, data, splits, models, metrics, and the process in which they run.

Importing this package, ``jobs``, ``process``, ``defaults``, ``folder`` or ``predict`` loads no torch.
"""
