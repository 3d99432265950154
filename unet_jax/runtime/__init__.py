"""The machine that a run works on: start-up, devices and mesh, memory, compilation cache, signals, watchdog, lock.

Any room may call it; it imports nothing but `errors` and `files`.
"""
