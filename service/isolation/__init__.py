"""Work on untrusted data in child processes, with limits that the kernel enforces."""
