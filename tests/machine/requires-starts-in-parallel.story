`requires` without an order pulls in and starts side by side.

--- db
[service]
exec = ["/bin/db"]

--- web
[unit]
requires = ["db"]
[service]
exec = ["/bin/web"]

--- story
> start web
  web waiting
  db waiting
  spawn db@1
  db starting
  spawn web@1
  web starting
> executed web
  web running
> executed db
  db running

A dependency that crashes and restarts by itself does not take its dependents down.
> dies db 11
  db stopping: signal 11
  kill db
> emptied db
  release db@1
  db backoff: signal 11
> wait 200ms
  at 95.616701ms
  db waiting
  spawn db@2
  db starting
> executed db
  db running

An explicit restart does: they stop first, and start beside it again.
> restart db
  db stopping: asked to restart
  web stopping: restarted with db, which it requires
  signal 15 to web (main)
> exits web 0
  kill web
> emptied web
  release web@1
  web waiting
  signal 15 to db (main)
> exits db 0
  kill db
> emptied db
  release db@2
  db waiting
  spawn db@3
  db starting
  spawn web@2
  web starting
