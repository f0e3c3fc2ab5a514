`depends` waits for its condition; what it waits for is started with it. The stop goes the other way round.

--- db
[service]
exec = ["/bin/db"]
type = "notify"

--- web
[unit]
depends = [{ unit = "db", condition = "ready" }]
[service]
exec = ["/bin/web"]

--- story
> start web
  web waiting
  db waiting
  spawn db@1
  db starting
> why web
  web waits for other units (waiting); db is not ready
    db is being started (starting), until 90s
> executed db
> ready db
  db running
  spawn web@1
  web starting
> ready db
> executed web
  web running

Explicit stops take along what requires the unit: web goes first, db when web's cell is empty.
> stop db
  db stopping: asked to stop
  web stopping: stopped with db, which it requires
  signal 15 to web (main)
> why db
  db stops after the units that depend on it (stopping), last: asked to stop; web is not stopped
    web was told to stop (stopping), until 10s, last: stopped with db, which it requires
> dies web 15
  kill web
> emptied web
  release web@1
  web stopped: stopped with db, which it requires
  signal 15 to db (main)
> exits db 0
  kill db
> emptied db
  release db@1
  db stopped: asked to stop
