A probe that never answers is a failure one second after its timeout.

--- web
[service]
exec = ["/bin/web"]
[health.live]
tcp = "127.0.0.1:1"
interval = "5s"
timeout = "2s"
failures = 1
action = "kill"
[restart]
jitter = "0%"

--- story
> start web
  web waiting
  spawn web@1
  web starting
> executed web
  web running
> wait 0s
  at 0ns
  probe web live
> probe web live passes
  web healthy
> wait 8s
  at 5s
  probe web live
  at 8s
  web unhealthy: health.live failed: no answer
  web stopping: health.live failed: no answer
  kill web
