What stays in the cell after an unexpected end is killed; the next run waits until the cell is empty.

--- web
[service]
exec = ["/bin/web"]
[restart]
jitter = "0%"

--- story
> start web
  web waiting
  spawn web@1
  web starting
> executed web
  web running
> exits web 1
  web stopping: exit status 1
  kill web
> wait 6s
  at 5s
  kill web
> emptied web
  release web@1
  web backoff: exit status 1
> wait 1s
  at 6.1s
  web waiting
  spawn web@2
  web starting
