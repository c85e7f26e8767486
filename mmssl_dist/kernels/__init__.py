"""Compiled kernels for the CPU, each beside a plain torch twin that gives equal results on any device.

A public function takes and returns torch tensors. On the CPU it runs compiled code without Python's lock; on
another device it runs the twin, which is also what the tests compare it with.
"""
