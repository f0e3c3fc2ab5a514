STOPPING=1: it has its stop timeout to end by itself.

--- web
[service]
exec = ["/bin/web"]
type = "notify"
[stop]
timeout = "2s"
[restart]
jitter = "0%"

--- story
> start web
  web waiting
  spawn web@1
  web starting
> executed web
> ready web
  web running
> stopping web
  web stopping
> exits web 0
  kill web
> emptied web
  release web@1
  web stopped: ended with success (exit status 0)
> start web
  web waiting
  spawn web@2
  web starting
> executed web
> ready web
  web running
> stopping web
  web stopping
> wait 2s
  at 2s
  kill web
> dies web 9
> emptied web
  release web@2
  web backoff: signal 9: it said that it was stopping and did not end in time
