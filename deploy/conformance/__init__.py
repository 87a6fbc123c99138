"""A trial of one worker in whatever language: every difficult moment of a run, and what it does about each.

A server of the program's own code serves it over TLS; each of its calls is held until a scene says what becomes of it.

`calls` holds them, `server` lives, dies and lives again, in a time of its own, `companions` are the other
members, `stage` is what a scene sees of all that, `worker` starts the one on trial; `scenes`, `returns`, `endings` and
`runs` are the moments; `trial` plays them.
"""
