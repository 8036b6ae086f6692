"""Recorded scenes with cameras from users' disks: one module a layout, one entry of LAYOUTS each."""
