Not ready in time is a failure like another.

--- web
[service]
exec = ["/bin/web"]
type = "notify"
start-timeout = "3s"
[stop]
timeout = "1s"
[restart]
jitter = "0%"

--- story
> start web
  web waiting
  spawn web@1
  web starting
> executed web
> wait 4s
  at 3s
  web stopping: not ready within 3s
  signal 15 to web (main)
  at 4s
  kill web
> dies web 9
> emptied web
  release web@1
  web backoff: not ready within 3s
