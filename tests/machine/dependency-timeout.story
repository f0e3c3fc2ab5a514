A condition may have a timeout. When the condition holds later on, the unit starts after all.

--- db
[service]
exec = ["/bin/db"]
type = "notify"
start-timeout = "infinity"

--- web
[unit]
depends = [{ unit = "db", condition = "ready", timeout = "5s" }]
[service]
exec = ["/bin/web"]

--- story
> start web
  web waiting
  db waiting
  spawn db@1
  db starting
> executed db
> wait 6s
  at 5s
  web failed: db was not ready in time
> ready db
  db running
  web waiting
  spawn web@1
  web starting
