Start while stopping, stop while starting, restart while stopping: each wish is kept, and no two runs meet.

--- web
[service]
exec = ["/bin/web"]
type = "notify"

--- story
> start web
  web waiting
  spawn web@1
  web starting
> executed web
> stop web
  web stopping: asked to stop
  signal 15 to web (main)
> start web
> exits web 1
  kill web
> emptied web
  release web@1
  web waiting
  spawn web@2
  web starting
> executed web
> ready web
  web running
> restart web
  web stopping: asked to restart
  signal 15 to web (main)
> restart web
> stop web
> exits web 0
  kill web
> emptied web
  release web@2
  web stopped: asked to stop
