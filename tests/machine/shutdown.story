Everything goes down, dependents first. Nothing starts any more. Who asks for infinity gets ninety seconds.

--- db
[service]
exec = ["/bin/db"]
[stop]
timeout = "infinity"

--- web
[unit]
depends = [{ unit = "db", condition = "started" }]
[service]
exec = ["/bin/web"]

--- idle
[service]
exec = ["/bin/idle"]

--- story
> start web
  web waiting
  db waiting
  spawn db@1
  db starting
> executed db
  db running
  spawn web@1
  web starting
> executed web
  web running
> shutdown
  db stopping: stopped for the shutdown
  web stopping: stopped for the shutdown
  signal 15 to web (main)
> start idle
> exits web 0
  kill web
> emptied web
  release web@1
  web stopped: stopped for the shutdown
  signal 15 to db (main)
> wait 100s
  at 90s
  kill db
  at 95s
  kill db
  at 100s
  finished
  kill db
> dies db 9
> emptied db
  release db@1
  db stopped: stopped for the shutdown
> shutdown
