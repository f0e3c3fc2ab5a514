What no kill can end is left behind: a shutdown has a last bound, and who is in the way is still listed.

--- db
[service]
exec = ["/bin/db"]

--- web
[unit]
depends = [{ unit = "db", condition = "started" }]
[service]
exec = ["/bin/web"]

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
> wait 120s
  at 10s
  kill web
  at 15s
  kill web
  at 20s
  kill web
  at 25s
  kill web
  at 30s
  kill web
  at 35s
  kill web
  at 40s
  kill web
  at 45s
  kill web
  at 50s
  kill web
  at 55s
  kill web
  at 60s
  kill web
  at 65s
  kill web
  at 70s
  kill web
  at 75s
  kill web
  at 80s
  kill web
  at 85s
  kill web
  at 90s
  kill db
  kill web
  at 95s
  kill db
  kill web
  at 100s
  finished
  kill db
  kill web
  at 105s
  kill db
  kill web
  at 110s
  kill db
  kill web
  at 115s
  kill db
  kill web
  at 120s
  kill db
  kill web
> why db
  db was killed; its cell is not empty yet (stopping), until 125s, last: stopped for the shutdown
> why web
  web was killed; its cell is not empty yet (stopping), until 125s, last: stopped for the shutdown
> emptied web
  release web@1
  web stopped: stopped for the shutdown
> emptied db
  release db@1
  db stopped: stopped for the shutdown
