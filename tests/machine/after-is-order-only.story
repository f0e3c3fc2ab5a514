`after` waits until the other has made up its mind, well or badly. It starts nothing.

--- db
[service]
exec = ["/bin/db"]
type = "notify"
[restart]
policy = "no"

--- web
[unit]
after = ["db"]
[service]
exec = ["/bin/web"]

--- story
> start web
  web waiting
  spawn web@1
  web starting
> executed web
  web running
> stop web
  web stopping: asked to stop
  signal 15 to web (main)
> exits web 0
  kill web
> emptied web
  release web@1
  web stopped: asked to stop
> start db
  db waiting
  spawn db@1
  db starting
> start web
  web waiting
> executed db
> exits db 1
  db stopping: exit status 1
  kill db
> emptied db
  release db@1
  db failed: exit status 1
  spawn web@2
  web starting
