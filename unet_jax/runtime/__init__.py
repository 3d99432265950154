"""The machine a run works on: devices and mesh, host memory, compiled programs on disk, signals, watchdog, lock.

Any room may call it; it imports nothing but `errors` and `files`.
"""
