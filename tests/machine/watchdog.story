Silence is answered with SIGABRT, then SIGKILL.

--- web
[service]
exec = ["/bin/web"]
type = "notify"
[watchdog]
timeout = "2s"
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
> ready web
  web running
> wait 1s
> ping web
> wait 1500ms
> wait 2s
  at 3s
  web stopping: no WATCHDOG=1 for 2s
  signal 6 to web (main)
  at 4s
  kill web
> dies web 6
> emptied web
  release web@1
  web backoff: no WATCHDOG=1 for 2s
