Delays grow by the factor up to the most, and a run that was good for long enough forgets them.

--- web
[service]
exec = ["/bin/web"]
[restart]
delay = "100ms"
factor = 2
max-delay = "300ms"
jitter = "0%"
reset-after = "60s"

--- story
> start web
  web waiting
  spawn web@1
  web starting
> executed web
  web running
> dies web 9
  web stopping: signal 9
  kill web
> emptied web
  release web@1
  web backoff: signal 9
> why web
  web waits before its restart (backoff), until 100ms, last: signal 9
> wait 1s
  at 100ms
  web waiting
  spawn web@2
  web starting
> executed web
  web running
> exits web 1
  web stopping: exit status 1
  kill web
> emptied web
  release web@2
  web backoff: exit status 1
> wait 1s
  at 1.2s
  web waiting
  spawn web@3
  web starting
> executed web
  web running
> exits web 1
  web stopping: exit status 1
  kill web
> emptied web
  release web@3
  web backoff: exit status 1
> wait 1s
  at 2.3s
  web waiting
  spawn web@4
  web starting
> executed web
  web running
> wait 61s
> exits web 1
  web stopping: exit status 1
  kill web
> emptied web
  release web@4
  web backoff: exit status 1
> wait 1s
  at 64.1s
  web waiting
  spawn web@5
  web starting
News of a run long gone changes nothing.
> exits web@1 1
> emptied web@1

Stop in a backoff is immediate; start in a backoff does not wait for it.
> exits web 1
  web stopping: exit status 1
  kill web
> emptied web
  release web@5
  web backoff: exit status 1
> start web
  web waiting
  spawn web@6
  web starting
> exits web 1
  web stopping: exit status 1
  kill web
> emptied web
  release web@6
  web backoff: exit status 1
> stop web
  web stopped: asked to stop
