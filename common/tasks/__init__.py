"""What is learned: the contract of a task, the built-in tasks, and how a name becomes one."""
