"""Analysis of Loggos runs: functions from DataFrame to DataFrame, and figures made of them.

`trace` reads what nodes and clients recorded, `runs` a whole run's folder; `stats`, `stages` and
`faults` measure; `plots` draws; `analyse` does all of it for one run.
`client` is apart from all of this: a client of a cluster, which needs only the standard library.
"""
