The startup probe goes first. Until it passed it is tried soon and then ever more slowly; failures count once per interval. A
failing `ready` holds dependents back and hurts nobody; a failing `live` restarts.

--- web
[service]
exec = ["/bin/web"]
[health.startup]
tcp = "127.0.0.1:1"
interval = "1s"
failures = 3
[health.live]
tcp = "127.0.0.1:1"
interval = "10s"
failures = 2
[health.ready]
tcp = "127.0.0.1:1"
interval = "10s"
failures = 1
[restart]
jitter = "0%"

--- front
[unit]
depends = [{ unit = "web", condition = "healthy" }]
[service]
exec = ["/bin/front"]

--- story
> start front
  front waiting
  web waiting
  spawn web@1
  web starting
> executed web
  web running
> wait 0s
  at 0ns
  probe web startup
> probe web startup fails
> wait 50ms
  at 50ms
  probe web startup
> probe web startup fails
> wait 100ms
  at 150ms
  probe web startup
> probe web startup passes
> wait 0s
  at 150ms
  probe web live
  probe web ready
> probe web live passes
> probe web ready fails
> wait 500ms
  at 200ms
  probe web ready
> probe web ready passes
  web healthy
  spawn front@1
  front starting
> why front
  front is being started (starting), until 90.65s
> wait 700ms
> probe web ready fails
> wait 10s
  at 10.15s
  probe web live
  at 10.65s
  probe web ready
> probe web ready passes
> executed front
  front running
> probe web live fails
> wait 10s
  at 21.35s
  probe web live
  probe web ready
> probe web live fails
  web unhealthy: health.live failed: refused
  web stopping: health.live failed: refused
  signal 15 to web (main)
> probe web live passes
> exits web 0
  kill web
> emptied web
  release web@1
  web backoff: health.live failed: refused
