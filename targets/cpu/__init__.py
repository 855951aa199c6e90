"""The CPU target: C through zig, for x86-64 and aarch64."""
