"""`make run`: all of the product on one machine, under one supervisor. `__main__` starts the processes."""
