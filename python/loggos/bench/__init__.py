"""`make bench`: Loggos beside other systems and beside what the machine can do.

A run has parts, each in a file of its own, which add numbers to `measures`; nothing is judged while
it is measured. `bars` says what is asked of these numbers, `report` and `figure` show them.
`systems/` has a file for each system: how it is started, found to serve, loaded and ended.
"""
