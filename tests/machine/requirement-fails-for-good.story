What waits for a unit that failed for good fails with it, and comes back when that one is back.

--- db
[service]
exec = ["/bin/db"]
type = "notify"
[restart]
policy = "no"

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
> executed db
> exits db 3
  db stopping: exit status 3
  kill db
> why web
  web waits for other units (waiting); db is not ready
    db was killed; its cell is not empty yet (stopping), until 5s, last: exit status 3
> emptied db
  release db@1
  db failed: exit status 3
  web failed: db failed
> why web
  web has failed (failed), last: db failed
    db has failed (failed), last: exit status 3
> start db
  db waiting
  spawn db@2
  db starting
> executed db
> ready db
  db running
  web waiting
  spawn web@1
  web starting
> executed web
  web running
