A job that is done stays done, until somebody starts or restarts it.

--- migrate
[unit]
kind = "job"
[service]
exec = ["/bin/migrate"]

--- web
[unit]
depends = [{ unit = "migrate", condition = "completed" }]
[service]
exec = ["/bin/web"]

--- story
> start web
  web waiting
  migrate waiting
  spawn migrate@1
  migrate starting
> executed migrate
> exits migrate 0
  migrate stopping: ended with success (exit status 0)
  kill migrate
> emptied migrate
  release migrate@1
  migrate completed: ended with success (exit status 0)
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
> start web
  web waiting
  spawn web@2
  web starting
> start migrate
  migrate waiting
  spawn migrate@2
  migrate starting
> executed migrate
> exits migrate 0
  migrate stopping: ended with success (exit status 0)
  kill migrate
> emptied migrate
  release migrate@2
  migrate completed: ended with success (exit status 0)
> executed web
  web running
> stop migrate
  migrate stopping: asked to stop
  web stopping: stopped with migrate, which it requires
  signal 15 to web (main)
> exits web 0
  kill web
> emptied web
  release web@2
  web stopped: stopped with migrate, which it requires
  migrate stopped: asked to stop
