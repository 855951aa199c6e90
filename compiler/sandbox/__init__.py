"""A worker that handles what people did not write themselves: hostile files end in an error, not in running code.

    parent ── JSON lines ──> child.py: locks itself in (enter.py), then imports what it needs and answers

`syscalls` says what the kernel still does for the worker (seccomp), `landlock` which files it may open; `enter` puts both
on, before numpy or torch is imported. `process` is the parent's side: it watches memory, disk and time, and takes the
worker's answers as hostile.
"""
