A run that has not executed has no program that could hear a signal: it is killed, at once, in whatever order its stop comes,
and nothing of it is started afterwards.

--- web
[service]
exec = ["/bin/web"]
type = "notify"

[stop]
timeout = "infinity"
--- worker
[service]
exec = ["/bin/worker"]
type = "simple"

[restart]
policy = "always"

[stop]
mode = "none"
--- story
> start web
  web waiting
  spawn web@1
  web starting
> stop web
  web stopping: asked to stop
  kill web
> cannot-start web
> emptied web
  release web@1
  web stopped: asked to stop
> start worker
  worker waiting
  spawn worker@1
  worker starting
  worker running
> stop worker
  worker stopping: asked to stop
  kill worker
> dies worker 9
> emptied worker
  release worker@1
  worker stopped: asked to stop
> start worker
  worker waiting
  spawn worker@2
  worker starting
  worker running
> restart worker
  worker stopping: asked to restart
  kill worker
> executed worker
> dies worker 9
> emptied worker
  release worker@2
  worker waiting
  spawn worker@3
  worker starting
  worker running
