"""The report: all experiments together, of what was published of them and nothing else.

`make report` (`python -m loggos.report`) writes `results/README.md` and `results/report.html`, and
draws all figures anew from the tables; only what was published before its tables were is shown as
it was drawn then. What it reads are the folders below
`results/`, into which `python -m loggos.analyse RUN --publish` copies a run's tables, figures and
parameters. A new experiment is an `Entry` in one of the chapters (`speed`, `faults`, `links`,
`state`); one whose results are not there is told to be missing.
"""
